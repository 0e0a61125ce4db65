"""The engine's C API where speed counts, by ctypes: unchecked calls in both directions.

wasmtime-py's own wrappers look up the function's type, box every value and check it, which costs far more than the
call itself. Types are checked once here, when a module is linked; after that, values travel as raw 16-byte slots.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, addressof, byref, c_size_t, c_uint8, c_uint32, c_void_p
from typing import Any, Final

import wasmtime
from wasmtime import _ffi as ffi

SLOT_WORDS: Final = 4
"""A raw value is 16 bytes, so that it can hold a v128: four 32-bit words."""

Words = Any
"""A ctypes pointer to 32-bit words; `words[4 * n]` is the n-th raw value as an i32."""

_dll = ffi.dll

Callback = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, POINTER(c_uint32), c_size_t)
"""C type of a host function: (environment, caller, values, count) → trap, 0 for none."""

_define_func = ctypes.CFUNCTYPE(
    c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, Callback, c_void_p, c_void_p
)(("wasmtime_linker_define_func_unchecked", _dll))

call_unchecked = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)(
    ("wasmtime_func_call_unchecked", _dll)
)
"""(context, function, values, count, out trap) → error; all addresses as plain integers."""

set_epoch_deadline = ctypes.CFUNCTYPE(None, c_void_p, ctypes.c_uint64)(("wasmtime_context_set_epoch_deadline", _dll))

_memory_data = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p)(("wasmtime_memory_data", _dll))
_memory_size = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p)(("wasmtime_memory_data_size", _dll))
_trap_new = ctypes.CFUNCTYPE(c_void_p, ctypes.c_char_p, c_size_t)(("wasmtime_trap_new", _dll))


def context_address(store: wasmtime.Store) -> int:
    """Address of the store's context, which every call needs."""
    address = ctypes.cast(store._context(), c_void_p).value
    assert address is not None
    return address


def new_trap(message: str) -> int:
    """A trap for a host function to return; the engine takes ownership of it."""
    data = message.encode()
    return int(_trap_new(data, len(data)) or 0)


def define(linker: wasmtime.Linker, module: str, name: str, ty: wasmtime.FuncType, callback: Any) -> None:
    """Define one host function; the caller keeps `callback` alive as long as the linker and its instances."""
    module_bytes, name_bytes = module.encode(), name.encode()
    error = _define_func(
        ctypes.cast(linker.ptr(), c_void_p),
        module_bytes,
        len(module_bytes),
        name_bytes,
        len(name_bytes),
        ctypes.cast(ty.ptr(), c_void_p),
        callback,
        None,
        None,
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, POINTER(ffi.wasmtime_error_t)))


class Export:
    """An exported function, called without checks.

    Its argument slots are its own: the engine reads them when the call begins and writes the result when it ends, so
    that a nested call of the same export does no harm.
    """

    __slots__ = ("_function", "_slots", "_trap", "address", "count", "name", "slots", "trap", "wide", "words")

    def __init__(self, name: str, function: wasmtime.Func, params: Sequence[str]) -> None:
        self.name = name
        self.count = max(len(params), 1)
        self._function = function._func
        self._slots = (c_uint32 * (SLOT_WORDS * self.count))()
        self._trap = c_void_p()
        self.words = self._slots
        self.address = addressof(self._function)
        self.slots = addressof(self._slots)
        self.trap = addressof(self._trap)
        self.wide = "i64" in params

    def take_trap(self) -> wasmtime.Trap | None:
        """The trap of the last call, if there was one."""
        if not self._trap.value:
            return None
        trap = wasmtime.Trap._from_ptr(ctypes.cast(self._trap.value, POINTER(ffi.wasm_trap_t)))
        self._trap.value = None
        return trap


def take_error(address: int) -> wasmtime.WasmtimeError:
    """The engine's error at this address, as an exception."""
    return wasmtime.WasmtimeError._from_ptr(ctypes.cast(address, POINTER(ffi.wasmtime_error_t)))


class MemoryHandle:
    """Where a linear memory is and how big it is."""

    __slots__ = ("_context", "_memory")

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._context = context_address(store)
        self._memory = memory._memory

    def view(self) -> memoryview:
        """The memory as it is now; stale once the memory has grown or its store is gone."""
        size = int(_memory_size(self._context, byref(self._memory)))
        base = _memory_data(self._context, byref(self._memory))
        if not base or not size:
            return memoryview(bytearray())
        return memoryview((c_uint8 * size).from_address(base)).cast("B")

    def size(self) -> int:
        """Bytes now."""
        return int(_memory_size(self._context, byref(self._memory)))


HostFunction = Callable[..., int | None]


def thunk(function: Callable[[Words], int]) -> Any:
    """A C callback for `function`, which gets the raw words and returns a trap's address or 0."""
    return Callback(lambda _environment, _caller, words, _count: function(words))
