"""The proxy-wasm host one writes first: wasmtime's documented Python API, nothing else.

It is a comparator of `labkit bench host`, so that the distance between the obvious host and
`labkit.proxywasm` can be measured. It answers what a plugin on the Go SDK asks during one request, with
`Linker.define_func`, `Func.__call__` and `Memory.read`/`write`, and knows nothing of phases, limits or faults.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import wasmtime

ROOT_CONTEXT = 1
OK, NOT_FOUND, BAD_ARGUMENT = 0, 1, 2
WASI_BADF = 8
REQUEST_BODY, PLUGIN_CONFIGURATION = 0, 7

Header = tuple[bytes, bytes]


class NaiveHost:
    """One plugin, instantiated and configured; `request` runs one request's whole life.

    Args:
        engine: The engine that compiled the plugin.
        module: The compiled plugin.
        config: The plugin configuration, as the gateway would pass it.
        properties: Answers to proxy_get_property, by NUL-separated path.
    """

    def __init__(
        self, engine: wasmtime.Engine, module: wasmtime.Module, config: bytes, properties: Mapping[bytes, bytes]
    ) -> None:
        self._store = wasmtime.Store(engine)
        self._config = config
        self._properties = properties
        self._headers: list[Header] = []
        self._body = b""
        self._next_context = ROOT_CONTEXT + 1
        self.reply: tuple[int, bytes] | None = None
        self.host_calls = 0
        linker = wasmtime.Linker(engine)
        linker.allow_shadowing = True
        for imported in module.imports:
            function = getattr(self, f"_{imported.name}", None) or _refuse(imported)
            ty = imported.type
            assert isinstance(ty, wasmtime.FuncType)
            linker.define_func(imported.module, imported.name or "", ty, self._counted(function))
        self._exports = linker.instantiate(self._store, module).exports(self._store)
        self._memory: Any = self._exports["memory"]
        if "_initialize" in self._exports:
            self._call("_initialize")
        self._call("proxy_on_context_create", ROOT_CONTEXT, 0)
        self._call("proxy_on_vm_start", ROOT_CONTEXT, 0)
        if not self._call("proxy_on_configure", ROOT_CONTEXT, len(config)):
            raise ValueError("the plugin refused its configuration")

    def request(self, headers: Sequence[Header], body: bytes = b"") -> tuple[int, bytes] | None:
        """Create a context, hand it request headers and body, then log, done, delete; returns the local reply."""
        context, self._next_context = self._next_context, self._next_context + 1
        self._headers, self.reply = list(headers), None
        self._call("proxy_on_context_create", context, ROOT_CONTEXT)
        self._call("proxy_on_request_headers", context, len(headers), int(not body))
        if body:
            self._body = body
            self._call("proxy_on_request_body", context, len(body), 1)
        self._call("proxy_on_log", context)
        self._call("proxy_on_done", context)
        self._call("proxy_on_delete", context)
        return self.reply

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def host_call(*arguments: int) -> Any:
            self.host_calls += 1
            return function(*arguments)

        return host_call

    def _call(self, name: str, *arguments: int) -> Any:
        function: Any = self._exports[name]
        return function(self._store, *arguments)

    def _read(self, pointer: int, size: int) -> bytes:
        return bytes(self._memory.read(self._store, pointer, pointer + size))

    def _write(self, pointer: int, data: bytes) -> None:
        self._memory.write(self._store, data, pointer)

    def _write_u32(self, pointer: int, value: int) -> None:
        self._write(pointer, value.to_bytes(4, "little"))

    def _give(self, data: bytes, return_pointer: int, return_size: int) -> int:
        pointer = self._call("proxy_on_memory_allocate", len(data))
        self._write(pointer, data)
        self._write_u32(return_pointer, pointer)
        self._write_u32(return_size, len(data))
        return OK

    def _proxy_log(self, level: int, pointer: int, size: int) -> int:
        self._read(pointer, size)
        return OK

    def _proxy_get_header_map_value(self, kind: int, key: int, key_size: int, pointer: int, size: int) -> int:
        wanted = self._read(key, key_size).lower()
        for name, value in self._headers:
            if name == wanted:
                return self._give(value, pointer, size)
        return NOT_FOUND

    def _proxy_remove_header_map_value(self, kind: int, key: int, key_size: int) -> int:
        unwanted = self._read(key, key_size).lower()
        self._headers = [(name, value) for name, value in self._headers if name != unwanted]
        return OK

    def _proxy_get_header_map_pairs(self, kind: int, pointer: int, size: int) -> int:
        sizes = [len(part).to_bytes(4, "little") for header in self._headers for part in header]
        texts = [part + b"\0" for header in self._headers for part in header]
        return self._give(len(self._headers).to_bytes(4, "little") + b"".join(sizes + texts), pointer, size)

    def _proxy_get_buffer_bytes(self, kind: int, start: int, length: int, pointer: int, size: int) -> int:
        buffer = {REQUEST_BODY: self._body, PLUGIN_CONFIGURATION: self._config}.get(kind)
        return NOT_FOUND if buffer is None else self._give(buffer[start : start + length], pointer, size)

    def _proxy_set_buffer_bytes(self, kind: int, start: int, length: int, pointer: int, size: int) -> int:
        self._body = self._read(pointer, size)
        return OK

    def _proxy_get_property(self, path: int, path_size: int, pointer: int, size: int) -> int:
        value = self._properties.get(self._read(path, path_size))
        return NOT_FOUND if value is None else self._give(value, pointer, size)

    def _proxy_set_property(self, path: int, path_size: int, value: int, size: int) -> int:
        return OK

    def _proxy_send_local_response(self, status: int, details: int, details_size: int, body: int, *rest: int) -> int:
        self.reply = (status, self._read(body, rest[0]))
        return OK

    def _proxy_call_foreign_function(self, *arguments: int) -> int:
        return NOT_FOUND

    def _proxy_set_effective_context(self, context: int) -> int:
        return OK

    def _proxy_set_tick_period_milliseconds(self, period: int) -> int:
        return OK

    def _clock_time_get(self, clock: int, precision: int, pointer: int) -> int:
        now = time.time_ns() if clock == 0 else time.monotonic_ns()
        self._write(pointer, now.to_bytes(8, "little"))
        return OK

    def _random_get(self, pointer: int, size: int) -> int:
        self._write(pointer, os.urandom(size))
        return OK

    def _args_sizes_get(self, count: int, size: int) -> int:
        self._write_u32(count, 0)
        self._write_u32(size, 0)
        return OK

    _environ_sizes_get = _args_sizes_get

    def _args_get(self, arguments: int, buffer: int) -> int:
        return OK

    _environ_get = _args_get

    def _fd_prestat_get(self, descriptor: int, pointer: int) -> int:
        return WASI_BADF

    def _fd_fdstat_get(self, descriptor: int, pointer: int) -> int:
        return WASI_BADF

    def _poll_oneoff(self, subscriptions: int, events: int, count: int, ready: int) -> int:
        self._write_u32(ready, 0)
        return OK

    def _fd_write(self, descriptor: int, vectors: int, count: int, written: int) -> int:
        sizes = (self._read(vectors + 8 * index + 4, 4) for index in range(count))
        self._write_u32(written, sum(int.from_bytes(size, "little") for size in sizes))
        return OK

    def _sched_yield(self) -> int:
        return OK


def _refuse(imported: wasmtime.ImportType) -> Callable[..., Any]:
    def refuse(*arguments: int) -> Any:
        raise NotImplementedError(f"the naive host has no {imported.module}.{imported.name}")

    return refuse
