"""Foreign functions: what a host offers beside the ABI, by name."""

from __future__ import annotations

from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def call_foreign_function(
    vm: Vm, name: int, name_size: int, arguments: int, arguments_size: int, results: int, results_size: int
) -> int:
    """Call a function of the host; an unknown one is NotFound, which SDKs rely on."""
    memory = vm.memory
    function = vm.host.foreign_functions.get(memory.read(name, name_size).decode(errors="replace"))
    data = memory.read(arguments, arguments_size)
    if function is None:
        return Status.NOT_FOUND
    answer = function(vm, data)
    if isinstance(answer, Status):
        return answer
    address = vm.allocate(len(answer)) if results and answer else 0
    if address:
        memory.write(address, answer)
    if results:
        memory.write_u32(results, address)
    if results_size:
        memory.write_u32(results_size, len(answer))
    return Status.OK
