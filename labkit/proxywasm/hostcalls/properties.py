"""Properties: facts about the stream, the connection and the plugin, and values that plugins leave for each other."""

from __future__ import annotations

from labkit.proxywasm import properties
from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def get_property(vm: Vm, path: int, path_size: int, value: int, value_size: int) -> int:
    """The property at a path whose parts are separated by zero bytes."""
    found = properties.lookup(vm.context, vm.memory.read(path, path_size))
    if isinstance(found, Status):
        return found
    vm.answer(found, value, value_size)
    return Status.OK


def set_property(vm: Vm, path: int, path_size: int, value: int, value_size: int) -> int:
    """Set a property of the stream, for this plugin and those after it."""
    name, data = vm.memory.read(path, path_size), vm.memory.read(value, value_size)
    return properties.store(vm.context, name, data)
