"""Shared queues."""

from __future__ import annotations

from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def register_shared_queue(vm: Vm, name: int, name_size: int, token: int) -> int:
    """Own a queue; `proxy_on_queue_ready` is called when something arrives."""
    queue = vm.memory.read(name, name_size)
    number = vm.host.queues.register(vm.vm_id, queue, vm.context.root)
    vm.memory.write_u32(token, number)
    return Status.OK


def resolve_shared_queue(vm: Vm, vm_id: int, vm_id_size: int, name: int, name_size: int, token: int) -> int:
    """Find a queue of this or another VM id."""
    owner = vm.memory.read(vm_id, vm_id_size).decode(errors="replace")
    queue = vm.memory.read(name, name_size)
    number = vm.host.queues.resolve(owner or vm.vm_id, queue)
    if not number:
        return Status.NOT_FOUND
    vm.memory.write_u32(token, number)
    return Status.OK


def enqueue_shared_queue(vm: Vm, token: int, data: int, data_size: int) -> int:
    """Append to a queue and wake its owner, once this callback is over."""
    content = vm.memory.read(data, data_size)
    owner = vm.host.queues.enqueue(token, content)
    if owner is None:
        return Status.NOT_FOUND
    vm.host.call_soon(lambda: owner.id in owner.vm.contexts and owner.enter("proxy_on_queue_ready", token))
    return Status.OK


def dequeue_shared_queue(vm: Vm, token: int, data: int, data_size: int) -> int:
    """Take the oldest entry."""
    entry = vm.host.queues.dequeue(token)
    if isinstance(entry, Status):
        return entry
    vm.answer(entry, data, data_size)
    return Status.OK
