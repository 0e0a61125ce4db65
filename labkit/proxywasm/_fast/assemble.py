"""Writes the trampolines and the responder as WAT, from the ABI table and the fragments in `wat/`."""

from __future__ import annotations

import functools
import re
from importlib.resources import files

import wasmtime

from labkit.proxywasm import abi
from labkit.proxywasm._fast.layout import PAGES, PLACES

HOT: tuple[str, ...] = (
    "proxy_log",
    "proxy_get_log_level",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_get_buffer_bytes",
    "proxy_set_buffer_bytes",
    "proxy_get_buffer_status",
    "proxy_get_header_map_value",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_size",
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_set_header_map_pairs",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "clock_time_get",
)
"""The host calls that the responder answers."""

WALKED: tuple[str, ...] = (
    "on_context_create",
    "on_request_headers",
    "on_request_body",
    "on_request_trailers",
    "on_response_headers",
    "on_response_body",
    "on_response_trailers",
    "on_log",
    "on_done",
    "on_delete",
)
"""The callbacks that a walk can call; a step names one by its index."""

FRAGMENTS = ("memory", "pairs", "headers", "streams", "walk")


def hot_functions() -> tuple[abi.Function, ...]:
    """The hot host calls with their types, one for each import module that has them."""
    return tuple(function for function in abi.HOST_FUNCTIONS if function.name in HOT)


def callback_types(version: str) -> tuple[abi.Function, ...]:
    """The callbacks of a walk as this ABI version has them."""
    known = abi.callbacks(version)
    return tuple(known[f"proxy_{name}"] for name in WALKED)


@functools.cache
def trampolines() -> bytes:
    """The module that plugins are linked against: every hot host call as a jump through an exported table."""
    functions = hot_functions()
    lines = ["(module $labkit_host"]
    for index, function in enumerate(functions):
        lines.append(f'  (import "{function.module}" "{function.name}" (func $python_{index} {_type(function)}))')
    lines.append(f'  (memory (export "memory") {PAGES} {PAGES})')
    lines.append(f'  (table $calls (export "calls") {len(functions)} {len(functions)} funcref)')
    lines.append(f"  (elem (i32.const 0) {' '.join(f'$python_{index}' for index in range(len(functions)))})")
    for index, function in enumerate(functions):
        arguments = " ".join(f"(local.get {n})" for n in range(len(function.wasm_params)))
        lines.append(f'  (func (export "{function.module}.{function.name}") {_type(function)}')
        lines.append(f"    (call_indirect $calls {_type(function)} {arguments} (i32.const {index})))")
    # What the responder imports in place of a callback that the plugin does not export.
    for count in (1, 2, 3):
        lines.append(f'  (func (export "continue_{count}") (param {"i32 " * count}) (result i32) (i32.const 0))')
        lines.append(f'  (func (export "nothing_{count}") (param {"i32 " * count}))')
    lines.append('  (func (export "done") (param i32) (result i32) (i32.const 1)))')
    return bytes(wasmtime.wat2wasm("\n".join(lines)))


@functools.cache
def responder(version: str) -> bytes:
    """The module that answers hot host calls for a plugin of this ABI version and walks its callbacks."""
    functions = hot_functions()
    lines = [
        "(module $labkit_host",
        '  (import "plugin" "memory" (memory $guest 0))',
        f'  (import "host" "memory" (memory $host {PAGES} {PAGES}))',
        f'  (import "host" "calls" (table $calls {len(functions)} funcref))',
        '  (import "plugin" "allocate" (func $allocate (param i32) (result i32)))',
    ]
    for name in HOT:
        function = next(function for function in functions if function.name == name)
        lines.append(f'  (import "{function.module}" "{name}" (func $python_{name} {_type(function)}))')
    lines += [
        f'  (import "plugin" "{function.name}" (func $plugin_{function.short_name} {_type(function)}))'
        for function in callback_types(version)
    ]
    lines.append(f"  (elem (table $calls) (i32.const 0) func {' '.join(f'${f.name}' for f in functions)})")
    headers = next(f for f in callback_types(version) if f.name == "proxy_on_request_headers")
    third = "(local.get $third)" if len(headers.params) == 3 else ""
    fragments = files("labkit.proxywasm._fast") / "wat"
    lines += [_fill((fragments / f"{name}.wat").read_text("utf-8"), third) for name in FRAGMENTS]
    lines.append(")")
    return bytes(wasmtime.wat2wasm("\n".join(lines)))


def _fill(fragment: str, third: str) -> str:
    def place(match: re.Match[str]) -> str:
        return third if match[1] == "HEADERS_THIRD" else str(PLACES[match[1]])

    return re.sub(r"%([A-Z_]+)%", place, fragment)


def _type(function: abi.Function) -> str:
    params = f"(param {' '.join(function.wasm_params)})" if function.wasm_params else ""
    results = f" (result {' '.join(function.wasm_results)})" if function.wasm_results else ""
    return params + results
