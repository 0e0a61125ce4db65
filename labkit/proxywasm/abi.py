"""The whole proxy-wasm ABI as one table.

Linking, the decoding of arguments in traces, the check of a module's imports and the coverage table in the docs are
all made from `HOST_FUNCTIONS` and `CALLBACKS`; nothing else in the package knows a signature.

A function's parameters are written in a small notation, one word a parameter, because the ABI passes one logical
value as one or two integers:

    word            Wasm parameters          meaning
    name:u32        i32                      a number (also: bool, an enum's name)
    name:u64        i64                      a number
    name:bytes      i32 data, i32 size       bytes the plugin passes in (also: str, pairs)
    name:>bytes     i32 data*, i32 size*     bytes the host allocates in the plugin and answers with (also: str, pairs)
    name:>u32       i32 pointer              a number the host writes at that address (also: u64)
    name:ptr        i32                      an address the function interprets itself
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import Final

from labkit.proxywasm.enums import (
    Action,
    BufferType,
    LogLevel,
    MapType,
    MetricType,
    PeerType,
    Status,
    StreamType,
)

__all__ = [
    "ALLOCATORS",
    "CALLBACKS",
    "ENUMS",
    "HOST_FUNCTIONS",
    "MARKERS",
    "V0_1_0",
    "V0_2_0",
    "V0_2_1",
    "V0_2_100",
    "VERSIONS",
    "WASI_MODULES",
    "Action",
    "BufferType",
    "Function",
    "LogLevel",
    "MapType",
    "MetricType",
    "Parameter",
    "PeerType",
    "Status",
    "StreamType",
    "callbacks",
    "host_functions",
]

V0_1_0: Final = "0.1.0"
V0_2_0: Final = "0.2.0"
V0_2_1: Final = "0.2.1"
V0_2_100: Final = "0.2.100"
VERSIONS: Final = (V0_1_0, V0_2_0, V0_2_1, V0_2_100)
"""ABI versions, oldest first. 0.2.100 is Higress' own."""

MARKERS: Mapping[str, str] = MappingProxyType({f"proxy_abi_version_{v.replace('.', '_')}": v for v in VERSIONS})
"""Name of the export that marks a module → its ABI version."""


ENUMS: Mapping[str, type[IntEnum]] = MappingProxyType(
    {
        "status": Status,
        "level": LogLevel,
        "map": MapType,
        "buffer": BufferType,
        "stream": StreamType,
        "metric": MetricType,
        "action": Action,
        "peer": PeerType,
    }
)
"""Kinds of parameters that are numbers with names."""

_TWO_WORDS: Final = frozenset({"bytes", "str", "pairs"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One logical parameter: `kind` as in the notation above, `out` when the host answers through it."""

    name: str
    kind: str
    out: bool = False

    @property
    def wasm_types(self) -> tuple[str, ...]:
        """The Wasm parameters this one is passed as."""
        if self.kind in _TWO_WORDS:
            return ("i32", "i32")
        return ("i64",) if self.kind in ("u64", "i64") and not self.out else ("i32",)


@dataclass(frozen=True)
class Function:
    """A host function or a callback.

    Attributes:
        name: As imported or exported.
        module: Import module (`env`, `wasi_snapshot_preview1`); empty for callbacks.
        group: Which part of the ABI it belongs to; one module of `labkit.proxywasm.hostcalls` each.
        params: Logical parameters.
        result: Kind of the result (`status`, `errno`, `action`, `bool`, `u32`), or None.
        versions: The ABI versions that have it.
    """

    name: str
    module: str
    group: str
    params: tuple[Parameter, ...]
    result: str | None
    versions: tuple[str, ...] = VERSIONS

    @cached_property
    def wasm_params(self) -> tuple[str, ...]:
        """Types of the Wasm parameters."""
        return tuple(kind for parameter in self.params for kind in parameter.wasm_types)

    @cached_property
    def wasm_results(self) -> tuple[str, ...]:
        """Types of the Wasm results."""
        return ("i32",) if self.result else ()

    @property
    def short_name(self) -> str:
        """The name without `proxy_`."""
        return self.name.removeprefix("proxy_")

    def signature(self) -> str:
        """The Wasm type, as in `(i32, i32) -> i32`."""
        return f"({', '.join(self.wasm_params)}) -> {', '.join(self.wasm_results) or '()'}"


def _parse(words: str) -> tuple[Parameter, ...]:
    parameters = []
    for word in words.split():
        name, kind = word.split(":")
        parameters.append(Parameter(name, kind.lstrip(">"), kind.startswith(">")))
    return tuple(parameters)


_FROM_0_2_0 = (V0_2_0, V0_2_1, V0_2_100)
_FROM_0_2_1 = (V0_2_1, V0_2_100)
# Higress registers its own functions for 0.2.1 modules too, and its SDK's modules run with that marker elsewhere.
_HIGRESS = (V0_2_1, V0_2_100)

_Row = tuple[str, str] | tuple[str, str, tuple[str, ...]]

_PROXY: dict[str, list[_Row]] = {
    "logging": [
        ("log", "level:level message:str"),
        ("get_log_level", "level:>level", _FROM_0_2_1),
    ],
    "clock": [
        ("get_current_time_nanoseconds", "time:>u64"),
        ("set_tick_period_milliseconds", "period:u32"),
    ],
    "properties": [
        ("get_property", "path:str value:>bytes"),
        ("set_property", "path:str value:bytes"),
    ],
    "buffers": [
        ("get_buffer_bytes", "buffer:buffer start:u32 length:u32 data:>bytes"),
        ("get_buffer_status", "buffer:buffer length:>u32 flags:>u32"),
        ("set_buffer_bytes", "buffer:buffer start:u32 length:u32 data:bytes"),
        ("get_configuration", "data:>bytes", (V0_1_0,)),
    ],
    "headers": [
        ("get_header_map_value", "map:map key:str value:>str"),
        ("get_header_map_pairs", "map:map pairs:>pairs"),
        ("get_header_map_size", "map:map size:>u32"),
        ("add_header_map_value", "map:map key:str value:str"),
        ("replace_header_map_value", "map:map key:str value:str"),
        ("remove_header_map_value", "map:map key:str"),
        ("set_header_map_pairs", "map:map pairs:pairs"),
    ],
    "streams": [
        ("send_local_response", "status_code:u32 details:str body:bytes headers:pairs grpc_status:i32"),
        ("continue_stream", "stream:stream", _FROM_0_2_0),
        ("close_stream", "stream:stream", _FROM_0_2_0),
        ("continue_request", "", (V0_1_0,)),
        ("continue_response", "", (V0_1_0,)),
        ("clear_route_cache", "", (V0_1_0,)),
        ("inject_encoded_data_to_filter_chain", "body:bytes end_of_stream:bool", _HIGRESS),
        ("get_upstream_hosts", "hosts:>pairs", _HIGRESS),
        ("set_upstream_override_host", "address:str", _HIGRESS),
    ],
    "callouts": [
        ("http_call", "cluster:str headers:pairs body:bytes trailers:pairs timeout:u32 token:>u32"),
        (
            "grpc_call",
            "cluster:bytes service:str method:str metadata:pairs message:bytes timeout:u32 token:>u32",
        ),
        ("grpc_stream", "cluster:bytes service:str method:str metadata:pairs token:>u32"),
        ("grpc_send", "token:u32 message:bytes end_of_stream:bool"),
        ("grpc_cancel", "token:u32"),
        ("grpc_close", "token:u32"),
        ("get_status", "code:>u32 message:>str"),
    ],
    "redis": [
        ("redis_init", "cluster:str username:str password:str timeout:u32", _HIGRESS),
        ("redis_call", "cluster:str query:bytes token:>u32", _HIGRESS),
    ],
    "shared_data": [
        ("get_shared_data", "key:str value:>bytes cas:>u32"),
        ("set_shared_data", "key:str value:bytes cas:u32"),
    ],
    "queues": [
        ("register_shared_queue", "name:str token:>u32"),
        ("resolve_shared_queue", "vm_id:str name:str token:>u32"),
        ("enqueue_shared_queue", "token:u32 data:bytes"),
        ("dequeue_shared_queue", "token:u32 data:>bytes"),
    ],
    "metrics": [
        ("define_metric", "kind:metric name:str metric:>u32"),
        ("increment_metric", "metric:u32 offset:i64"),
        ("record_metric", "metric:u32 value:u64"),
        ("get_metric", "metric:u32 value:>u64"),
    ],
    "contexts": [
        ("set_effective_context", "context:u32"),
        ("done", ""),
    ],
    "foreign": [
        ("call_foreign_function", "function:str arguments:bytes results:>bytes"),
    ],
}

_WASI: list[tuple[str, str]] = [
    ("args_get", "argv:ptr buffer:ptr"),
    ("args_sizes_get", "count:>u32 size:>u32"),
    ("environ_get", "environ:ptr buffer:ptr"),
    ("environ_sizes_get", "count:>u32 size:>u32"),
    ("clock_time_get", "clock:u32 precision:u64 time:>u64"),
    ("clock_res_get", "clock:u32 resolution:>u64"),
    ("random_get", "buffer:ptr length:u32"),
    ("sched_yield", ""),
    ("poll_oneoff", "subscriptions:ptr events:ptr count:u32 events_count:>u32"),
    ("fd_write", "fd:u32 iovs:ptr iovs_count:u32 written:>u32"),
    ("fd_pwrite", "fd:u32 iovs:ptr iovs_count:u32 offset:u64 written:>u32"),
    ("fd_read", "fd:u32 iovs:ptr iovs_count:u32 read:>u32"),
    ("fd_pread", "fd:u32 iovs:ptr iovs_count:u32 offset:u64 read:>u32"),
    ("fd_seek", "fd:u32 offset:i64 whence:u32 position:>u64"),
    ("fd_tell", "fd:u32 position:>u64"),
    ("fd_close", "fd:u32"),
    ("fd_fdstat_get", "fd:u32 stat:ptr"),
    ("fd_fdstat_set_flags", "fd:u32 flags:u32"),
    ("fd_fdstat_set_rights", "fd:u32 base:u64 inheriting:u64"),
    ("fd_filestat_get", "fd:u32 stat:ptr"),
    ("fd_filestat_set_size", "fd:u32 size:u64"),
    ("fd_filestat_set_times", "fd:u32 atim:u64 mtim:u64 flags:u32"),
    ("fd_advise", "fd:u32 offset:u64 length:u64 advice:u32"),
    ("fd_allocate", "fd:u32 offset:u64 length:u64"),
    ("fd_datasync", "fd:u32"),
    ("fd_sync", "fd:u32"),
    ("fd_prestat_get", "fd:u32 stat:ptr"),
    ("fd_prestat_dir_name", "fd:u32 path:ptr path_size:u32"),
    ("fd_readdir", "fd:u32 buffer:ptr size:u32 cookie:u64 read:>u32"),
    ("fd_renumber", "fd:u32 to:u32"),
    ("path_open", "fd:u32 dirflags:u32 path:str oflags:u32 rights:u64 inheriting:u64 flags:u32 opened:>u32"),
    ("path_filestat_get", "fd:u32 flags:u32 path:str stat:ptr"),
    ("path_create_directory", "fd:u32 path:str"),
    ("path_filestat_set_times", "fd:u32 flags:u32 path:str atim:u64 mtim:u64 set:u32"),
    ("path_link", "old_fd:u32 flags:u32 old_path:str new_fd:u32 new_path:str"),
    ("path_readlink", "fd:u32 path:str buffer:ptr size:u32 read:>u32"),
    ("path_remove_directory", "fd:u32 path:str"),
    ("path_rename", "fd:u32 old_path:str new_fd:u32 new_path:str"),
    ("path_symlink", "old_path:str fd:u32 new_path:str"),
    ("path_unlink_file", "fd:u32 path:str"),
    ("sock_accept", "fd:u32 flags:u32 accepted:>u32"),
    ("sock_recv", "fd:u32 iovs:ptr iovs_count:u32 flags:u32 read:>u32 out_flags:ptr"),
    ("sock_send", "fd:u32 iovs:ptr iovs_count:u32 flags:u32 sent:>u32"),
    ("sock_shutdown", "fd:u32 how:u32"),
]

_CALLBACKS: dict[str, list[tuple[str, str, str | None] | tuple[str, str, str | None, tuple[str, ...]]]] = {
    "contexts": [
        ("on_context_create", "context:u32 parent:u32", None),
        ("on_done", "context:u32", "bool"),
        ("on_log", "context:u32", None),
        ("on_delete", "context:u32", None),
    ],
    "configuration": [
        ("validate_configuration", "context:u32 size:u32", "bool"),
        ("on_vm_start", "context:u32 size:u32", "bool"),
        ("on_configure", "context:u32 size:u32", "bool"),
    ],
    "http": [
        ("on_request_headers", "context:u32 count:u32", "action", (V0_1_0,)),
        ("on_request_headers", "context:u32 count:u32 end_of_stream:bool", "action", _FROM_0_2_0),
        ("on_request_body", "context:u32 size:u32 end_of_stream:bool", "action"),
        ("on_request_trailers", "context:u32 count:u32", "action"),
        ("on_request_metadata", "context:u32 count:u32", "action"),
        ("on_response_headers", "context:u32 count:u32", "action", (V0_1_0,)),
        ("on_response_headers", "context:u32 count:u32 end_of_stream:bool", "action", _FROM_0_2_0),
        ("on_response_body", "context:u32 size:u32 end_of_stream:bool", "action"),
        ("on_response_trailers", "context:u32 count:u32", "action"),
        ("on_response_metadata", "context:u32 count:u32", "action"),
    ],
    "tcp": [
        ("on_new_connection", "context:u32", "action"),
        ("on_downstream_data", "context:u32 size:u32 end_of_stream:bool", "action"),
        ("on_upstream_data", "context:u32 size:u32 end_of_stream:bool", "action"),
        ("on_downstream_connection_close", "context:u32 peer:peer", None),
        ("on_upstream_connection_close", "context:u32 peer:peer", None),
    ],
    "callouts": [
        ("on_http_call_response", "context:u32 token:u32 headers:u32 body_size:u32 trailers:u32", None),
        ("on_grpc_receive_initial_metadata", "context:u32 token:u32 elements:u32", None),
        ("on_grpc_receive", "context:u32 token:u32 size:u32", None),
        ("on_grpc_receive_trailing_metadata", "context:u32 token:u32 elements:u32", None),
        ("on_grpc_close", "context:u32 token:u32 status:u32", None),
        ("on_redis_call_response", "context:u32 token:u32 status:u32 size:u32", None, _HIGRESS),
    ],
    "other": [
        ("on_tick", "context:u32", None),
        ("on_queue_ready", "context:u32 token:u32", None),
        ("on_foreign_function", "context:u32 function:u32 size:u32", None, _FROM_0_2_0),
    ],
}

WASI_MODULES: Final = ("wasi_snapshot_preview1", "wasi_unstable")
"""Import modules under which SDKs ask for WASI preview 1."""


def _host_functions() -> tuple[Function, ...]:
    rows = [
        Function(f"proxy_{row[0]}", "env", group, _parse(row[1]), "status", row[2] if len(row) > 2 else VERSIONS)
        for group, group_rows in _PROXY.items()
        for row in group_rows
    ]
    for module in WASI_MODULES:
        rows += [Function(name, module, "wasi", _parse(words), "errno") for name, words in _WASI]
        rows.append(Function("proc_exit", module, "wasi", _parse("code:u32"), None))
    rows.append(Function("emscripten_notify_memory_growth", "env", "emscripten", _parse("memory:u32"), None))
    rows.append(Function("pthread_equal", "env", "emscripten", _parse("left:u32 right:u32"), "u32"))
    return tuple(rows)


def _callbacks() -> tuple[Function, ...]:
    return tuple(
        Function(f"proxy_{row[0]}", "", group, _parse(row[1]), row[2], row[3] if len(row) > 3 else VERSIONS)
        for group, rows in _CALLBACKS.items()
        for row in rows
    )


HOST_FUNCTIONS: Final = _host_functions()
"""Every function a module may import."""

CALLBACKS: Final = _callbacks()
"""Every function of a module that the host calls, but for the allocator and the start functions."""

ALLOCATORS: Final = ("malloc", "proxy_on_memory_allocate")
"""Exports that allocate memory for the host, in the order in which they are looked for."""


def host_functions(version: str) -> dict[tuple[str, str], Function]:
    """The functions a module of this ABI version can import, by (module, name)."""
    return {(f.module, f.name): f for f in HOST_FUNCTIONS if version in f.versions}


def callbacks(version: str) -> dict[str, Function]:
    """The callbacks of this ABI version, by name."""
    return {f.name: f for f in CALLBACKS if version in f.versions}
