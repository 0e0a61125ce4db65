"""Time and timers."""

from __future__ import annotations

from labkit.proxywasm.contexts import PluginContext
from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def get_current_time_nanoseconds(vm: Vm, time_pointer: int) -> int:
    """Nanoseconds since 1970."""
    vm.memory.write_u64(time_pointer, vm.host.clock.time_ns())
    return Status.OK


def set_tick_period_milliseconds(vm: Vm, period: int) -> int:
    """Let `proxy_on_tick` be called every `period` milliseconds; 0 stops it."""
    root = vm.context.root
    if isinstance(root, PluginContext):
        vm.host.set_tick_period(root, period)
    return Status.OK
