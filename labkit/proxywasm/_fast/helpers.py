"""Compiles the trampolines and the responder, and links them with a plugin in its store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import wasmtime

from labkit.proxywasm import abi
from labkit.proxywasm._engine import Engine
from labkit.proxywasm._fast import assemble
from labkit.proxywasm._native import Export, MemoryHandle
from labkit.proxywasm.cache import ModuleCache

if TYPE_CHECKING:
    from labkit.proxywasm.module import Module


@functools.lru_cache(maxsize=16)
def _compiled(engine: Engine, version: str) -> wasmtime.Module:
    """A helper, compiled once a process; `version` is an ABI version, or empty for the trampolines."""
    code = assemble.responder(version) if version else assemble.trampolines()
    return ModuleCache.default().get(engine, code, "the fast path")


@dataclass(frozen=True, slots=True)
class Trampolines:
    """What a plugin is linked against, before it is instantiated."""

    exports: Any
    python: dict[tuple[str, str], Any]


def instantiate_trampolines(
    store: wasmtime.Store, linker: wasmtime.Linker, engine: Engine, define: Callable[[abi.Function], None]
) -> Trampolines:
    """Put the trampolines in the place of the Python functions that `linker` has for hot calls.

    Args:
        define: Defines in `linker` the Python function of a hot call that the plugin does not import itself.
    """
    python: dict[tuple[str, str], Any] = {}
    for function in assemble.hot_functions():
        key = function.module, function.name
        try:
            python[key] = linker.get(store, *key)
        except wasmtime.WasmtimeError:
            define(function)
            python[key] = linker.get(store, *key)
    exports = linker.instantiate(store, _compiled(engine, "")).exports(store)
    linker.allow_shadowing = True
    for module, name in python:
        linker.define(store, module, name, exports[f"{module}.{name}"])
    linker.allow_shadowing = False
    return Trampolines(exports, python)


@dataclass(frozen=True, slots=True)
class Responder:
    """The responder, linked: its memory, which never grows, and the walk."""

    memory: MemoryHandle
    walk: Export


def instantiate_responder(
    store: wasmtime.Store, module: Module, plugin: wasmtime.Instance, trampolines: Trampolines
) -> Responder:
    """Link the responder with an instantiated plugin; from here on, hot calls are its own."""
    exports, host = plugin.exports(store), trampolines.exports
    linker = wasmtime.Linker(module.engine.wasmtime)
    linker.define(store, "plugin", "memory", exports["memory"])
    linker.define(store, "plugin", "allocate", exports[module.allocator])
    linker.define(store, "host", "memory", host["memory"])
    linker.define(store, "host", "calls", host["calls"])
    for (namespace, name), function in trampolines.python.items():
        linker.define(store, namespace, name, function)
    for callback in assemble.callback_types(module.version):
        present = callback.name in module.callbacks
        linker.define(store, "plugin", callback.name, exports[callback.name] if present else host[_stub(callback)])
    responder = linker.instantiate(store, _compiled(module.engine, module.version)).exports(store)
    memory, walk = host["memory"], responder["walk"]
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(walk, wasmtime.Func)
    return Responder(MemoryHandle(store, memory), Export("walk", walk, ()))


def _stub(callback: abi.Function) -> str:
    if callback.name == "proxy_on_done":
        return "done"
    return f"{'continue' if callback.result else 'nothing'}_{len(callback.params)}"
