"""From the engine's trap to an exception with the plugin's own stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import wasmtime

from labkit.proxywasm.errors import DeadlineExceeded, Frame, FuelExhausted, StackExhausted, Trap

if TYPE_CHECKING:
    from labkit.proxywasm.module import Module

_NAMES = {
    wasmtime.TrapCode.UNREACHABLE: "unreachable (a panic, an abort, or a failed assertion)",
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "out of bounds memory access",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "out of bounds table access",
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: "call of a null function pointer",
    wasmtime.TrapCode.BAD_SIGNATURE: "call of a function pointer of another type",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "integer overflow",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "integer division by zero",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "conversion of a float that fits no integer",
}

_KINDS: dict[wasmtime.TrapCode, tuple[type[Trap], str, str]] = {
    wasmtime.TrapCode.STACK_OVERFLOW: (StackExhausted, "call stack exhausted", "recursion? or raise Limits(stack=…)"),
    wasmtime.TrapCode.INTERRUPT: (
        DeadlineExceeded,
        "ran longer than its deadline",
        "an endless loop? or raise Limits(deadline=…)",
    ),
    wasmtime.TrapCode.OUT_OF_FUEL: (FuelExhausted, "used up its fuel", "raise Limits(fuel=…)"),
}


def trap_from(trap: wasmtime.Trap, module: Module, callback: str) -> Trap:
    """The exception for a trap of `module` in `callback`."""
    frames = [_frame(frame, module) for frame in trap.frames]
    try:
        code = trap.trap_code
    except ValueError:
        code = None
    if code in _KINDS:
        kind, text, hint = _KINDS[code]
        return kind(text, module=module.name, callback=callback, frames=frames, hint=hint)
    text = _NAMES.get(code, "") if code is not None else ""
    if not text:
        text = (trap.message or "unknown reason").splitlines()[0]
    return Trap(text, module=module.name, callback=callback, frames=frames)


def _frame(frame: wasmtime.Frame, module: Module) -> Frame:
    index = frame.func_index
    return Frame(frame.func_name or f"wasm-function[{index}]", index, frame.module_offset)
