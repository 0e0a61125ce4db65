"""Logging."""

from __future__ import annotations

from labkit.proxywasm.enums import LogLevel, Status
from labkit.proxywasm.vm import Vm


def log(vm: Vm, level: int, address: int, size: int) -> int:
    """Log a line."""
    if level > LogLevel.CRITICAL:
        return Status.BAD_ARGUMENT
    message = vm.memory.read(address, min(size, vm.limits.log_line_bytes))
    vm.context.log(LogLevel(level), message.decode(errors="replace"))
    return Status.OK


def get_log_level(vm: Vm, level_pointer: int) -> int:
    """The level below which the host drops lines."""
    vm.memory.write_u32(level_pointer, vm.host.log_level)
    return Status.OK
