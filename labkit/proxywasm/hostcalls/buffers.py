"""Bodies, configurations and other byte buffers."""

from __future__ import annotations

from labkit.proxywasm.enums import BufferType, Status
from labkit.proxywasm.vm import Vm

_LAST = BufferType.CALL_DATA


def get_buffer_bytes(vm: Vm, kind: int, start: int, length: int, data: int, data_size: int) -> int:
    """A part of a buffer; less than asked for when the buffer ends before, and nothing beyond its end."""
    buffer = _buffer(vm, kind)
    if isinstance(buffer, Status):
        return buffer
    vm.answer(bytes(buffer[start : start + length]), data, data_size)
    return Status.OK


def get_buffer_status(vm: Vm, kind: int, length_pointer: int, flags_pointer: int) -> int:
    """A buffer's length."""
    buffer = _buffer(vm, kind)
    if isinstance(buffer, Status):
        return buffer
    vm.memory.write_u32(length_pointer, len(buffer))
    vm.memory.write_u32(flags_pointer, 0)
    return Status.OK


def set_buffer_bytes(vm: Vm, kind: int, start: int, length: int, data: int, data_size: int) -> int:
    """Change a body: insert in front, replace its first `length` bytes, or append; nothing in its middle."""
    buffer = _buffer(vm, kind)
    if isinstance(buffer, Status):
        return buffer
    content = vm.memory.read(data, data_size)
    if not isinstance(buffer, bytearray):
        return Status.BAD_ARGUMENT
    return splice(buffer, start, length, content)


def splice(buffer: bytearray, start: int, length: int, content: bytes) -> Status:
    """What `proxy_set_buffer_bytes` means in Envoy."""
    if start == 0:
        buffer[:length] = content
        return Status.OK
    if start >= len(buffer):
        buffer += content
        return Status.OK
    return Status.BAD_ARGUMENT


def get_configuration(vm: Vm, data: int, data_size: int) -> int:
    """The plugin's configuration while it is handed over, else the VM's (ABI 0.1.0)."""
    vm.answer(vm.context.configuration(), data, data_size)
    return Status.OK


def _buffer(vm: Vm, kind: int) -> bytes | bytearray | Status:
    higress = kind == BufferType.REDIS_CALL_RESPONSE and vm.higress
    if kind > _LAST and not higress:
        return Status.BAD_ARGUMENT
    buffer = vm.context.buffer(kind)
    return Status.NOT_FOUND if buffer is None else buffer
