"""Defines the host functions that a module imports, from the ABI's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wasmtime

from labkit.proxywasm import abi
from labkit.proxywasm._native import Words, define, new_trap, thunk
from labkit.proxywasm.enums import Status
from labkit.proxywasm.errors import PluginError
from labkit.proxywasm.hostcalls import Handler, implementation
from labkit.proxywasm.memory import OutOfBounds

if TYPE_CHECKING:
    from labkit.proxywasm.vm import Vm

_EFAULT = 21
_TYPES = {"i32": wasmtime.ValType.i32, "i64": wasmtime.ValType.i64}


class InvalidMemoryAccess(PluginError):
    """A host function was given an address range outside the plugin's memory."""


def link(vm: Vm, linker: wasmtime.Linker) -> list[Any]:
    """Define what the module imports; the result must live as long as the instance."""
    thunks = []
    fast = vm.fast

    def define_one(function: abi.Function) -> None:
        handler = implementation(function)
        if fast is not None:
            handler = fast.guard(function, handler)
        callback = thunk(_entry(vm, function, handler))
        ty = wasmtime.FuncType(
            [_TYPES[kind]() for kind in function.wasm_params], [_TYPES[kind]() for kind in function.wasm_results]
        )
        define(linker, function.module, function.name, ty, callback)
        thunks.append(callback)

    for function in vm.module.imports:
        define_one(function)
    if fast is not None:
        fast.link(linker, define_one)
    return thunks


def _entry(vm: Vm, function: abi.Function, handler: Handler) -> Callable[[Words], int]:
    """What runs when the plugin calls: read the arguments, run, write the result; 0, or the address of a trap."""
    count = len(function.wasm_params)
    end = 4 * count
    wide = tuple(index for index, kind in enumerate(function.wasm_params) if kind == "i64")
    fault = _EFAULT if function.result == "errno" else Status.INVALID_MEMORY_ACCESS

    def run(*args: int) -> int:
        try:
            return handler(vm, *args)
        except OutOfBounds as error:
            vm.report(_invalid_access(vm, function, args, error))
            return int(fault)

    def enter(words: Words) -> int:
        try:
            # ctypes takes an empty slice with a step for one element.
            args: list[int] = words[0:end:4] if end else []
            for index in wide:
                args[index] |= words[4 * index + 1] << 32
            if vm.observer is None:
                try:
                    result = handler(vm, *args)
                except OutOfBounds as error:
                    vm.report(_invalid_access(vm, function, args, error))
                    result = int(fault)
            else:
                result = vm.observer.host_call(vm, function, args, run)
            if function.result:
                words[0] = result
            return 0
        except BaseException as error:
            if vm.pending is None:
                vm.pending = error
            return new_trap(f"host function {function.name}: {error}")

    return enter


def _invalid_access(
    vm: Vm, function: abi.Function, args: tuple[int, ...] | list[int], error: OutOfBounds
) -> InvalidMemoryAccess:
    """Name the argument that points outside the memory."""
    size = len(vm.memory)
    position = 0
    culprit = None
    for parameter in function.params:
        words = args[position : position + len(parameter.wasm_types)]
        position += len(words)
        if parameter.out:
            ranges = [(word, 8 if parameter.kind == "u64" else 4) for word in words]
        elif len(words) == 2:
            ranges = [(words[0], words[1])]
        elif parameter.kind == "ptr":
            ranges = [(words[0], 1)]
        else:
            continue
        if any(start + length > size for start, length in ranges):
            culprit = parameter.name
            break
    where = f"argument {culprit}" if culprit else "an address"
    return InvalidMemoryAccess(
        f"{function.name}: {where} points outside the memory ({error})",
        module=vm.module.name,
        function=function.name,
        argument=culprit,
    )
