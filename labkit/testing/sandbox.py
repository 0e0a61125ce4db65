"""The stream in which a test runs its plugin: one callback after the other, as the original tester has it.

It knows less than Envoy, on purpose, so that a suite means the same in both testers: nothing is buffered, a phase sees
its own headers or chunk only, headers are a map sorted by name with repeats joined, properties are those of the test.
`labkit.proxywasm.HttpStream` is the one that does what Envoy does.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from labkit.proxywasm.abi import Function
from labkit.proxywasm.clock import Clock
from labkit.proxywasm.contexts import Context, PluginContext
from labkit.proxywasm.enums import BufferType, MapType, Status
from labkit.proxywasm.headers import HeaderMap, Pair
from labkit.proxywasm.vm import Vm

_HEADER_STATUS = {
    0: "Continue",
    1: "StopIteration",
    2: "ContinueAndEndStream",
    3: "StopAllIterationAndBuffer",
    4: "StopAllIterationAndWatermark",
}
_CALLBACKS = {
    "request_headers": "proxy_on_request_headers",
    "request_body": "proxy_on_request_body",
    "response_headers": "proxy_on_response_headers",
    "response_body": "proxy_on_response_body",
}
_MAY_REPLY = ("request_headers", "request_body", "response_headers")
_HEADER_CALLS = frozenset(
    f"proxy_{verb}"
    for verb in (
        *("add_header_map_value", "get_header_map_pairs", "get_header_map_size", "get_header_map_value"),
        *("remove_header_map_value", "replace_header_map_value", "set_header_map_pairs"),
    )
)


class FrozenClock(Clock):
    """A clock that always shows the same time, to wall and monotonic readers alike.

    Args:
        seconds: Since 1970; 0 is taken for one millisecond, since a clock at zero is a broken one to some runtimes.
    """

    def __init__(self, seconds: int = 0) -> None:
        self._now = seconds * 10**9 or 10**6

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._now

    def monotonic_ns(self) -> int:
        """The same."""
        return self._now

    def wait_until(self, monotonic_ns: int) -> None:
        """Nothing happens."""


class SortedHeaders(HeaderMap):
    """Headers sorted by name without regard to case; a repeated one is joined with a comma and a space."""

    __slots__ = ()

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        super().__init__(pairs)

    def _key(self, name: bytes) -> bytes:
        return name.upper()

    def _find(self, name: bytes) -> tuple[int, bool]:
        key = self._key(name)
        index = bisect.bisect_left(self.pairs, key, key=lambda pair: self._key(pair[0]))
        return index, index < len(self.pairs) and self._key(self.pairs[index][0]) == key

    def get(self, name: bytes) -> bytes | None:
        """The value of `name`, whatever its case."""
        index, found = self._find(name)
        return self.pairs[index][1] if found else None

    def add(self, name: bytes, value: bytes) -> None:
        """Add a value; behind the one that is there, unless that is empty."""
        old = self.get(name)
        self.replace(name, b", ".join((old, value)) if old else value)

    def remove(self, name: bytes) -> None:
        """Remove a header."""
        index, found = self._find(name)
        if found:
            del self.pairs[index]

    def replace(self, name: bytes, value: bytes) -> None:
        """Set a header; one that is there keeps the case of its name."""
        index, found = self._find(name)
        if found:
            self.pairs[index] = (self.pairs[index][0], value)
        else:
            self.pairs.insert(index, (name, value))


@dataclass(slots=True)
class PhaseResult:
    """What came of one phase.

    Attributes:
        action: What the callback returned, in Envoy's terms; 0 continues. Body phases don't count it.
        headers: As the plugin left them, or those of its reply.
        body: The chunk as the plugin left it, or the body of its reply.
        http_status: Of its reply; 0 when it did not reply.
        grpc_status: Of its reply, unsigned as it is on the wire.
        details: Of its reply.
    """

    action: int = 0
    headers: SortedHeaders = field(default_factory=SortedHeaders)
    body: bytes = b""
    http_status: int = 0
    grpc_status: int = 0
    details: str = ""

    @property
    def action_name(self) -> str:
        """The action in words."""
        return _HEADER_STATUS.get(self.action, str(self.action))


class TesterStream(Context):
    """A stream of a plugin; `send_headers` and `send_body` are one phase each.

    Attributes:
        properties: What the plugin finds with `proxy_get_property`.
        replied: Set when the plugin sent a local response: later phases don't happen.
        reply_body: The body of that response.
    """

    def __init__(self, plugin: PluginContext, properties: dict[str, bytes]) -> None:
        super().__init__(plugin.vm, plugin.vm.allocate_context_id(), plugin)
        self.properties = properties
        self.replied = False
        self.reply_body = b""
        self.result = PhaseResult()
        self.open_map: int | None = None
        self.phase = ""
        self._body = bytearray()
        self._logs_from = 0
        self.create()

    def send_headers(self, phase: str, headers: SortedHeaders) -> PhaseResult:
        """Headers of the request or the response, never the end of the stream."""
        self._begin(phase)
        if self.replied and phase == "response_headers":
            return self.result
        self.result.headers = headers
        self.open_map = MapType.REQUEST_HEADERS if phase == "request_headers" else MapType.RESPONSE_HEADERS
        self.result.action = self._action(self._call(len(headers), 0))
        self.open_map = None
        return self.result

    def send_body(self, phase: str, chunk: bytes, end_of_stream: bool) -> PhaseResult:
        """One chunk of a body."""
        self._begin(phase)
        if self.replied:
            return self.result
        self._body[:] = chunk
        self._call(len(chunk), int(end_of_stream))
        self.result.body = bytes(self._body)
        self._body.clear()
        return self.result

    def destroy(self) -> None:
        """`proxy_on_done` and `proxy_on_delete`; nothing is logged as an access log is."""
        self._logs_from = len(self.logs)
        self.enter("proxy_on_done")
        self.delete()

    @property
    def phase_logs(self) -> list[str]:
        """What the plugin logged in the phase under way, or the last one; in a body, since its last chunk."""
        return [line.message for line in self.logs[self._logs_from :]]

    def _begin(self, phase: str) -> None:
        self._logs_from = len(self.logs)
        self.phase = phase
        self.result = PhaseResult()

    def _call(self, *args: int) -> int | None:
        name = _CALLBACKS[self.phase]
        function = self.vm.module.callbacks.get(name)
        if function is None:
            return 0
        # ABI 0.1.0 does not tell headers callbacks about the end of the stream.
        return self.enter(name, *args[: len(function.params) - 1])

    def _action(self, returned: int | None) -> int:
        if returned is None or returned > 4 or self.replied:
            return 4
        return 4 if returned == 1 else returned

    def map(self, kind: int) -> HeaderMap | None:
        """The headers of the phase under way."""
        if kind <= MapType.RESPONSE_TRAILERS:
            return self.result.headers if kind == self.open_map else None
        return super().map(kind)

    def mutable_map(self, kind: int) -> HeaderMap | None:
        """The same: they can be changed."""
        return self.map(kind) if kind <= MapType.RESPONSE_TRAILERS else None

    def find_buffer(self, kind: int) -> bytes | bytearray | None:
        """The chunk under way, or the configuration, which can be read at any time."""
        if kind == BufferType.HTTP_REQUEST_BODY:
            return self._body if self.phase == "request_body" else None
        if kind == BufferType.HTTP_RESPONSE_BODY:
            return self._body if self.phase == "response_body" else None
        if kind == BufferType.PLUGIN_CONFIGURATION and isinstance(self.root, PluginContext):
            return self.root.config
        return super().find_buffer(kind)

    def send_local_response(
        self, status: int, details: str, body: bytes, headers: list[Pair], grpc_status: int
    ) -> None:
        """Answer: from here on the phase's result is the reply."""
        if self.phase not in _MAY_REPLY:
            return
        self.replied = True
        result = self.result
        result.http_status, result.body, result.details = status, body, details
        result.grpc_status = grpc_status & 0xFFFFFFFF
        result.headers = SortedHeaders()
        for name, value in headers:
            result.headers.replace(name, value)
        self.reply_body = body

    def splice(self, start: int, length: int, data: bytes) -> None:
        """Replace a part of the chunk, wherever it is."""
        self._body[start : start + length] = data


class TesterCalls:
    """Answers the host calls in which the original tester differs from Envoy; watches a plugin's streams as `Vm` lets.

    Contexts of other kinds are answered by the embedded host.
    """

    def callback(self, vm: Vm, function: Function, args: list[int], run: Callable[..., int]) -> int:
        """Callbacks are the host's."""
        return run(*args)

    def host_call(self, vm: Vm, function: Function, args: list[int], run: Callable[..., int]) -> int:
        """Answer, or let the host answer."""
        stream = vm.context
        if not isinstance(stream, TesterStream):
            return run(*args)
        name = function.name
        if name == "proxy_get_property":
            return self._get_property(vm, stream, args)
        if name in _HEADER_CALLS and args[0] <= MapType.RESPONSE_TRAILERS:
            if args[0] != stream.open_map:
                return Status.BAD_ARGUMENT
            if name == "proxy_get_header_map_size":
                vm.memory.write_u32(args[1], len(stream.result.headers))
                return Status.OK
        if name == "proxy_set_buffer_bytes" and isinstance(stream.find_buffer(args[0]), bytearray):
            stream.splice(args[1], args[2], vm.memory.read(args[3], args[4]))
            return Status.OK
        if name == "proxy_send_local_response" and stream.phase not in _MAY_REPLY:
            return Status.BAD_ARGUMENT
        return run(*args)

    @staticmethod
    def _get_property(vm: Vm, stream: TesterStream, args: list[int]) -> int:
        path = vm.memory.read(args[0], args[1])
        joined = b".".join(part for part in path.split(b"\0") if part).decode(errors="replace")
        value = stream.properties.get(joined)
        if value is None:
            return Status.NOT_FOUND
        vm.answer(value, args[2], args[3])
        return Status.OK
