"""From the engine's trap to an exception with the plugin's own stack."""

from __future__ import annotations

import re
from dataclasses import replace
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
    frames = _frames(trap)
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


_HOST = "labkit_host"
"""Name of the modules that answer host calls inside Wasm; their functions are not the plugin's."""

_FRAME = re.compile(r"\s*(\d+):\s+0x([0-9a-f]+) - (.*)")
_INLINED = re.compile(r"\s+- (.*)")
_PLACE = re.compile(r"\s+at (.+?):(\d+)(?::\d+)?")


def _frames(trap: wasmtime.Trap) -> list[Frame]:
    """The plugin's stack, with inlined functions, from the engine's text: only that has files and lines."""
    raw = trap.frames
    frames: list[Frame] = []
    for line in (trap.message or "").splitlines():
        if found := _FRAME.fullmatch(line):
            number = int(found[1])
            if number < len(raw) and raw[number].module_name == _HOST:
                continue
            index = raw[number].func_index if number < len(raw) else -1
            name = found[3].rpartition("!")[2]
            frames.append(Frame(_name(name, index), index, int(found[2], 16)))
        elif frames and (found := _INLINED.fullmatch(line)):
            frames.append(Frame(_name(found[1], frames[-1].index), frames[-1].index, frames[-1].offset))
        elif frames and (found := _PLACE.fullmatch(line)):
            frames[-1] = replace(frames[-1], file=found[1], line=int(found[2]))
    return frames or [
        Frame(_name(f.func_name or "", f.func_index), f.func_index, f.module_offset)
        for f in raw
        if f.module_name != _HOST
    ]


def _name(name: str, index: int) -> str:
    return f"wasm-function[{index}]" if not name or name.startswith("<wasm function") else name
