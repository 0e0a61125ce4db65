"""WASI preview 1 as far as Envoy offers it: stdout and stderr become logs; there are no files and no network."""

from __future__ import annotations

import struct

from labkit.proxywasm.enums import LogLevel
from labkit.proxywasm.memory import OutOfBounds
from labkit.proxywasm.vm import Vm

_SUCCESS, _BADF, _EINVAL, _NOENT, _NOSYS, _NOTDIR, _NOTSUP = 0, 8, 28, 44, 52, 20, 58
_RANDOM_MAX = 64 << 10
_STREAMS = {1: LogLevel.INFO, 2: LogLevel.ERROR}


def args_get(vm: Vm, argv: int, buffer: int) -> int:
    """The VM's own arguments; Envoy has none."""
    return _write_strings(vm, _arguments(vm), argv, buffer)


def args_sizes_get(vm: Vm, count: int, size: int) -> int:
    """Number and bytes of the VM's own arguments."""
    return _write_sizes(vm, _arguments(vm), count, size)


def environ_get(vm: Vm, environ: int, buffer: int) -> int:
    """The VM's own environment variables."""
    return _write_strings(vm, _environment(vm), environ, buffer)


def environ_sizes_get(vm: Vm, count: int, size: int) -> int:
    """Number and bytes of the VM's own environment variables."""
    return _write_sizes(vm, _environment(vm), count, size)


def _arguments(vm: Vm) -> list[bytes]:
    return [f"{argument}\0".encode() for argument in vm.arguments]


def _environment(vm: Vm) -> list[bytes]:
    return [f"{name}={value}\0".encode() for name, value in vm.environment.items()]


def _write_strings(vm: Vm, strings: list[bytes], pointers: int, buffer: int) -> int:
    for string in strings:
        vm.memory.write_u32(pointers, buffer)
        vm.memory.write(buffer, string)
        pointers += 4
        buffer += len(string)
    return _SUCCESS


def _write_sizes(vm: Vm, strings: list[bytes], count: int, size: int) -> int:
    vm.memory.write_u32(count, len(strings))
    vm.memory.write_u32(size, sum(map(len, strings)))
    return _SUCCESS


def clock_time_get(vm: Vm, clock: int, precision: int, time: int) -> int:
    """The host's clock: real time and monotonic."""
    if clock > 1:
        return _NOTSUP
    vm.memory.write_u64(time, vm.host.clock.monotonic_ns() if clock else vm.host.clock.time_ns())
    return _SUCCESS


def clock_res_get(vm: Vm, clock: int, resolution: int) -> int:
    """One nanosecond."""
    if clock > 1:
        return _NOTSUP
    vm.memory.write_u64(resolution, 1)
    return _SUCCESS


def random_get(vm: Vm, buffer: int, length: int) -> int:
    """Random bytes, at most 64 KiB."""
    if length > _RANDOM_MAX:
        return _EINVAL
    vm.memory.write(buffer, vm.host.random.randbytes(length))
    return _SUCCESS


def sched_yield(vm: Vm) -> int:
    """There is one thread."""
    return _SUCCESS


def poll_oneoff(vm: Vm, subscriptions: int, events: int, count: int, events_count: int) -> int:
    """Nothing ever happens; Go's runtime relies on success."""
    vm.memory.write_u32(events_count, 0)
    return _SUCCESS


def proc_exit(vm: Vm, code: int) -> int:
    """Returns, as in Envoy; what compilers put behind it traps."""
    return 0


def fd_write(vm: Vm, fd: int, iovs: int, iovs_count: int, written: int) -> int:
    """Log what is written to stdout or stderr."""
    return _write(vm, fd, iovs, iovs_count, written)


def fd_pwrite(vm: Vm, fd: int, iovs: int, iovs_count: int, offset: int, written: int) -> int:
    """Like `fd_write`; the offset means nothing."""
    return _write(vm, fd, iovs, iovs_count, written)


def _write(vm: Vm, fd: int, iovs: int, iovs_count: int, written: int) -> int:
    level = _STREAMS.get(fd)
    if level is None:
        return _BADF
    memory = vm.memory
    if iovs_count > len(memory) // 8:
        raise OutOfBounds(f"{iovs_count} buffers")
    parts, room, size = [], vm.limits.log_line_bytes, 0
    for index in range(iovs_count):
        address, length = struct.unpack("<II", memory.read(iovs + 8 * index, 8))
        size += length
        if length:
            parts.append(memory.read(address, min(length, room)))
            room -= len(parts[-1])
    if size:
        vm.context.log(level, b"".join(parts).decode(errors="replace").removesuffix("\n"))
    memory.write_u32(written, size)
    return _SUCCESS


def fd_fdstat_get(vm: Vm, fd: int, stat: int) -> int:
    """Standard output and error may be written to."""
    if fd not in _STREAMS:
        return _BADF
    vm.memory.write(stat, struct.pack("<QQQ", 0, 64, 0))
    return _SUCCESS


def _standard_stream(vm: Vm, fd: int, *_: int) -> int:
    return _SUCCESS if fd in _STREAMS else _BADF


fd_fdstat_set_rights = _standard_stream
fd_filestat_set_size = _standard_stream
fd_filestat_set_times = _standard_stream
fd_allocate = _standard_stream
fd_datasync = _standard_stream
fd_sync = _standard_stream


def fd_tell(vm: Vm, fd: int, position: int) -> int:
    """Always at the beginning."""
    if fd not in _STREAMS:
        return _BADF
    vm.memory.write_u64(position, 0)
    return _SUCCESS


def fd_renumber(vm: Vm, fd: int, to: int) -> int:
    """Not supported."""
    return _NOTSUP if fd in _STREAMS and to in _STREAMS else _BADF


def _constant(errno: int) -> object:
    def answer(vm: Vm, *_: int) -> int:
        return errno

    return answer


fd_fdstat_set_flags = _constant(_NOSYS)
fd_read = _constant(_NOSYS)
fd_pread = _constant(_NOSYS)
fd_seek = _constant(_SUCCESS)
fd_close = _constant(_SUCCESS)
fd_advise = _constant(_SUCCESS)
fd_filestat_get = _constant(_BADF)
fd_prestat_get = _constant(_BADF)
fd_prestat_dir_name = _constant(_NOSYS)
path_open = _constant(_NOENT)
path_filestat_get = _constant(_NOTSUP)
path_create_directory = _constant(_NOTSUP)
path_filestat_set_times = _constant(_NOTSUP)
path_link = _constant(_NOTSUP)
path_remove_directory = _constant(_NOTSUP)
path_rename = _constant(_NOTSUP)
path_symlink = _constant(_NOTSUP)
path_unlink_file = _constant(_NOTSUP)
sock_shutdown = _constant(_NOTSUP)


def fd_readdir(vm: Vm, fd: int, buffer: int, size: int, cookie: int, read: int) -> int:
    """There are no directories."""
    vm.memory.write_u32(read, 0)
    return _NOTDIR


def path_readlink(vm: Vm, fd: int, path: int, path_size: int, buffer: int, size: int, read: int) -> int:
    """There are no files."""
    vm.memory.write_u32(read, 0)
    return _NOTSUP


def sock_accept(vm: Vm, fd: int, flags: int, accepted: int) -> int:
    """There are no sockets."""
    vm.memory.write_u32(accepted, 0)
    return _NOTSUP


def sock_recv(vm: Vm, fd: int, iovs: int, iovs_count: int, flags: int, read: int, out_flags: int) -> int:
    """There are no sockets."""
    vm.memory.write_u32(read, 0)
    vm.memory.write(out_flags, b"\0\0")
    return _NOTSUP


def sock_send(vm: Vm, fd: int, iovs: int, iovs_count: int, flags: int, sent: int) -> int:
    """There are no sockets."""
    vm.memory.write_u32(sent, 0)
    return _NOTSUP
