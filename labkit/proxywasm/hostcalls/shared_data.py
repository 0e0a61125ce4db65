"""Shared data."""

from __future__ import annotations

from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def get_shared_data(vm: Vm, key: int, key_size: int, value: int, value_size: int, cas: int) -> int:
    """A value and the number to hand to `proxy_set_shared_data`."""
    found = vm.host.shared_data.get(vm.vm_id, vm.memory.read(key, key_size))
    if found is None:
        return Status.NOT_FOUND
    vm.answer(found[0], value, value_size)
    vm.memory.write_u32(cas, found[1])
    return Status.OK


def set_shared_data(vm: Vm, key: int, key_size: int, value: int, value_size: int, cas: int) -> int:
    """Write a value, unless somebody else wrote meanwhile."""
    name, data = vm.memory.read(key, key_size), vm.memory.read(value, value_size)
    return vm.host.shared_data.set(vm.vm_id, name, data, cas)
