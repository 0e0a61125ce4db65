"""WASI preview 1: what SDKs need, and nothing of the machine."""

from __future__ import annotations

import struct

import pytest

from labkit.proxywasm import Host, LogLevel, abi

from .probe import Probe

SUCCESS, BADF, EFAULT, EINVAL, NOENT, NOSYS, NOTDIR, NOTSUP = 0, 8, 21, 28, 44, 52, 20, 58
OUTSIDE = 0xFFFFFFF0


def iovec(probe: Probe, *parts: bytes) -> tuple[int, int]:
    vectors = b"".join(struct.pack("<II", *probe.put(part)) for part in parts)
    return probe.put(vectors)[0], len(parts)


@pytest.mark.parametrize(("fd", "level"), [(1, LogLevel.INFO), (2, LogLevel.ERROR)])
@pytest.mark.parametrize(("function", "extra"), [("fd_write", ()), ("fd_pwrite", (7,))])
def test_standard_output_and_error_are_logs(probe, fd, level, function, extra):
    written = probe.put(bytes(4))[0]
    assert probe.raw(function, fd, *iovec(probe, b"hello ", b"", b"world\n"), *extra, written) == SUCCESS
    assert probe.vm.memory.read_u32(written) == 12
    assert [(line.level, line.message) for line in probe.plugin.logs] == [(level, "hello world")]
    assert probe.raw(function, 3, *iovec(probe, b"x"), *extra, written) == BADF
    assert probe.raw(function, fd, OUTSIDE, 1, *extra, written) == EFAULT
    assert probe.raw(function, fd, 0, 0xFFFFFFFF, *extra, written) == EFAULT


def test_the_environment_is_the_vms_own(host, monkeypatch):
    monkeypatch.setenv("SECRET", "of the machine")
    probe = Probe(host=host, env={"A": "1", "LONG": "two words"})
    assert probe.call("environ_sizes_get") == (SUCCESS, 2, len("A=1\0LONG=two words\0"))
    pointers, buffer = probe.put(bytes(8))[0], probe.put(bytes(64))[0]
    assert probe.raw("environ_get", pointers, buffer) == SUCCESS
    assert probe.vm.memory.read(buffer, 19) == b"A=1\0LONG=two words\0"
    assert [probe.vm.memory.read_u32(pointers + 4 * n) for n in range(2)] == [buffer, buffer + 4]
    assert probe.raw("environ_get", OUTSIDE, buffer) == EFAULT


def test_there_are_no_arguments_unless_given(probe):
    assert probe.call("args_sizes_get") == (SUCCESS, 0, 0)
    assert probe.raw("args_get", 0, 0) == SUCCESS
    probe.vm.arguments = ("plugin", "-v")
    assert probe.call("args_sizes_get") == (SUCCESS, 2, len("plugin\0-v\0"))
    pointers, buffer = probe.put(bytes(8))[0], probe.put(bytes(16))[0]
    assert probe.raw("args_get", pointers, buffer) == SUCCESS
    assert probe.vm.memory.read(buffer, 10) == b"plugin\0-v\0"


def test_clocks(probe):
    clock = probe.host.clock
    assert probe.call("clock_time_get", 0, 0) == (SUCCESS, clock.time_ns())
    assert probe.call("clock_time_get", 1, 0) == (SUCCESS, clock.monotonic_ns())
    assert probe.call("clock_time_get", 2, 0) == (NOTSUP,)
    assert probe.call("clock_res_get", 1) == (SUCCESS, 1)
    assert probe.call("clock_res_get", 3) == (NOTSUP,)


def test_random_bytes_can_be_repeated():
    def draw(seed: int) -> bytes:
        probe = Probe(host=Host(seed=seed))
        assert probe.raw("random_get", 300, 32) == SUCCESS
        return probe.vm.memory.read(300, 32)

    assert draw(1) == draw(1) != draw(2)
    probe = Probe()
    assert probe.raw("random_get", 0, (64 << 10) + 1) == EINVAL
    assert probe.raw("random_get", OUTSIDE, 64) == EFAULT


def test_what_runtimes_call_and_nothing_happens(probe):
    assert probe.raw("sched_yield") == SUCCESS
    assert probe.call("poll_oneoff", 0, 0, 1) == (SUCCESS, 0)
    assert probe.raw("proc_exit", 3) is not None
    assert probe.failure() is None, "in Envoy it returns, too"


def test_fd_fdstat_get(probe):
    address = probe.put(bytes(24))[0]
    assert probe.raw("fd_fdstat_get", 1, address) == SUCCESS
    assert struct.unpack("<QQQ", probe.vm.memory.read(address, 24)) == (0, 64, 0)
    assert probe.raw("fd_fdstat_get", 0, address) == BADF


STANDARD_STREAMS_ONLY = [
    ("fd_fdstat_set_rights", (0, 0)),
    ("fd_filestat_set_size", (0,)),
    ("fd_filestat_set_times", (0, 0, 0)),
    ("fd_allocate", (0, 0)),
    ("fd_datasync", ()),
    ("fd_sync", ()),
]


@pytest.mark.parametrize(("function", "args"), STANDARD_STREAMS_ONLY)
def test_no_effect_on_standard_streams(probe, function, args):
    assert probe.raw(function, 1, *args) == SUCCESS
    assert probe.raw(function, 7, *args) == BADF


ALWAYS = [
    ("fd_fdstat_set_flags", (1, 0), NOSYS),
    ("fd_read", (0, 0, 0, 0), NOSYS),
    ("fd_pread", (0, 0, 0, 0, 0), NOSYS),
    ("fd_seek", (0, 0, 0, 0), SUCCESS),
    ("fd_close", (1,), SUCCESS),
    ("fd_advise", (9, 0, 0, 0), SUCCESS),
    ("fd_filestat_get", (1, 0), BADF),
    ("fd_prestat_get", (3, 0), BADF),
    ("fd_prestat_dir_name", (3, 0, 0), NOSYS),
    ("path_open", (3, 0, 0, 4, 0, 0, 0, 0, 0), NOENT),
    ("path_filestat_get", (3, 0, 0, 4, 0), NOTSUP),
    ("path_create_directory", (3, 0, 4), NOTSUP),
    ("path_filestat_set_times", (3, 0, 0, 4, 0, 0, 0), NOTSUP),
    ("path_link", (3, 0, 0, 4, 3, 0, 4), NOTSUP),
    ("path_remove_directory", (3, 0, 4), NOTSUP),
    ("path_rename", (3, 0, 4, 3, 0, 4), NOTSUP),
    ("path_symlink", (0, 4, 3, 0, 4), NOTSUP),
    ("path_unlink_file", (3, 0, 4), NOTSUP),
    ("sock_shutdown", (3, 0), NOTSUP),
    ("fd_renumber", (1, 2), NOTSUP),
    ("fd_renumber", (1, 9), BADF),
    ("fd_tell", (1, 64), SUCCESS),
    ("fd_tell", (9, 64), BADF),
    ("fd_readdir", (3, 0, 0, 0, 64), NOTDIR),
    ("path_readlink", (3, 0, 4, 0, 0, 64), NOTSUP),
    ("sock_accept", (3, 0, 64), NOTSUP),
    ("sock_recv", (3, 0, 0, 0, 64, 68), NOTSUP),
    ("sock_send", (3, 0, 0, 0, 64), NOTSUP),
]


@pytest.mark.parametrize(("function", "args", "errno"), ALWAYS)
def test_there_are_no_files_and_no_network(probe, function, args, errno):
    assert probe.raw(function, *args) == errno


def test_emscripten(probe):
    assert probe.raw("emscripten_notify_memory_growth", 0) is not None
    assert probe.raw("pthread_equal", 5, 5) == 1
    assert probe.raw("pthread_equal", 5, 6) == 0


def test_both_names_of_wasi_offer_the_same():
    first, second = ({f.name for f in abi.HOST_FUNCTIONS if f.module == module} for module in abi.WASI_MODULES)
    assert first == second
