"""An embedded proxy-wasm host: run gateway plugins inside the Python process, as Envoy would.

    from labkit.proxywasm import Plugin

    plugin = Plugin.load("plugin.wasm", config={"content": "hello"})
    result = plugin.request("GET", "http://example.com/foo", route="default/foo")
    assert (result.status, result.text, result.sent_by) == (200, "hello", "plugin")

The parts, from the bottom up:

- `abi`: the whole ABI as one table.
- `module`: a module, checked and compiled; `cache` keeps the compiled form on disk.
- `vm`: one instance. Everything enters Wasm through `Vm.call`; everything leaves it through `linking`, which defines
  the host functions of the table with the handlers in `hostcalls`.
- `contexts`, `http`, `tcp`: on whose behalf the plugin runs, and the state its host calls see.
- `chain`, `stream`: a chain of plugins with Envoy's rules of stopping, buffering and replying.
- `plugin`, `request`, `transport`: what users call.

A fast path plugs in at one seam: the state that host calls see is plain data (`HttpContext.maps`, a list of
`HeaderMap`, each a list of pairs of bytes; `HttpContext.bodies`, a list of `bytearray`; `StreamInfo`), and it is read
and written only between two calls of `Vm.call`. Whoever replaces `Vm.call` for a phase hands that state to the plugin
in its own way and brings it back before returning; the rest of the package does not notice. While `Vm.observer` is
set (tracing, stepping), calls must take the path here.
"""

from labkit.proxywasm.cache import ModuleCache
from labkit.proxywasm.callouts import GrpcStream
from labkit.proxywasm.clock import FakeClock, SystemClock
from labkit.proxywasm.contexts import LogLine
from labkit.proxywasm.enums import Action, LogLevel, Status
from labkit.proxywasm.errors import (
    AbiError,
    ConfigRejected,
    DeadlineExceeded,
    Frame,
    FuelExhausted,
    InvalidModule,
    LimitExceeded,
    MissingAllocator,
    PluginError,
    StackExhausted,
    StartFailed,
    StreamClosed,
    Trap,
    UnknownCluster,
    UnknownImports,
)
from labkit.proxywasm.handlers import Delayed, GrpcRequest, GrpcResponse, RedisRequest, Reset
from labkit.proxywasm.host import Host
from labkit.proxywasm.limits import Limits
from labkit.proxywasm.messages import Headers, Request, Response
from labkit.proxywasm.module import Module
from labkit.proxywasm.pipeline import Chain
from labkit.proxywasm.plugin import FailStrategy, Plugin
from labkit.proxywasm.properties import StreamInfo
from labkit.proxywasm.result import Result
from labkit.proxywasm.stepping import Steps, Stop
from labkit.proxywasm.stream import HttpStream
from labkit.proxywasm.tcp import TcpStream
from labkit.proxywasm.trace import Call, Trace
from labkit.proxywasm.transport import AsyncPluginTransport, PluginTransport

__all__ = [
    "AbiError",
    "Action",
    "AsyncPluginTransport",
    "Call",
    "Chain",
    "ConfigRejected",
    "DeadlineExceeded",
    "Delayed",
    "FailStrategy",
    "FakeClock",
    "Frame",
    "FuelExhausted",
    "GrpcRequest",
    "GrpcResponse",
    "GrpcStream",
    "Headers",
    "Host",
    "HttpStream",
    "InvalidModule",
    "LimitExceeded",
    "Limits",
    "LogLevel",
    "LogLine",
    "MissingAllocator",
    "Module",
    "ModuleCache",
    "Plugin",
    "PluginError",
    "PluginTransport",
    "RedisRequest",
    "Request",
    "Reset",
    "Response",
    "Result",
    "StackExhausted",
    "StartFailed",
    "Status",
    "Steps",
    "Stop",
    "StreamClosed",
    "StreamInfo",
    "SystemClock",
    "TcpStream",
    "Trace",
    "Trap",
    "UnknownCluster",
    "UnknownImports",
]
