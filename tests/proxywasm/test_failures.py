"""What happens after a trap: the stack, the fail strategies, reloading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labkit.proxywasm import FailStrategy, FakeClock, Frame, Host, Plugin, Response, abi

from .probe import probe_wat

TRAP_ON_SLASH = "(if (i32.eq (local.get 1) (i32.const 6)) (then (unreachable))) (i32.const 0)"
CODE = probe_wat(abi.V0_2_1, [], {"proxy_on_request_headers": TRAP_ON_SLASH}).encode()
BAD = {"x-bad": "1"}


def load(fail: FailStrategy, host: Host | None = None) -> Plugin:
    return Plugin.load(CODE, fail=fail, host=host or Host(clock=FakeClock()))


def test_a_trap_answers_503_and_is_told():
    result = load(FailStrategy.CLOSED).request(headers=BAD)
    assert (result.status, result.body, result.sent_by, result.details) == (503, b"", "host", "wasm_fail_stream")
    assert result.trap is not None
    assert "unreachable" in result.trap.code
    assert result.logs[-1].level == 5
    with pytest.raises(type(result.trap)):
        result.raise_for_problems()


@pytest.mark.parametrize(("fail", "after"), [(FailStrategy.CLOSED, 503), (FailStrategy.OPEN, 200)])
def test_what_the_strategy_says_about_later_requests(fail, after):
    plugin = load(fail)
    assert plugin.request().status == 200
    assert plugin.request(headers=BAD).status == 503
    assert plugin.request().status == after
    assert "failed" in repr(plugin)
    assert "failed" in plugin._repr_html_()


def test_a_reload_comes_at_most_once_a_back_off():
    host = Host(clock=FakeClock())
    plugin = load(FailStrategy.RELOAD, host)
    host.advance(5)
    assert plugin.request(headers=BAD).status == 503
    first = plugin.vm
    assert plugin.request().status == 200, "the last start is long ago"
    assert plugin.vm is not first
    assert plugin.request(headers=BAD).status == 503
    assert plugin.request().status == 503, "too early"
    host.advance(1)
    assert plugin.request().status == 200


def test_a_restart_makes_a_new_vm():
    plugin = load(FailStrategy.CLOSED)
    plugin.request(headers=BAD)
    plugin.restart()
    assert plugin.request().status == 200


def test_other_streams_of_a_failed_vm_fail_too():
    plugin = load(FailStrategy.CLOSED)
    stream = plugin.stream()
    stream.request_headers({":method": "GET", ":path": "/", ":authority": "a"})
    plugin.request(headers=BAD)
    stream.request_body(b"x", end_of_stream=True)
    assert stream.downstream.headers.get(b":status") == b"503"


def test_a_trap_in_the_response_phase_replaces_the_response():
    code = probe_wat(abi.V0_2_1, [], {"proxy_on_response_headers": "(unreachable)"}).encode()
    result = Plugin.load(code).request(upstream=Response(200, {}, b"body"))
    assert (result.status, result.body) == (503, b"")


def test_a_trap_shows_the_plugins_own_stack():
    wat = probe_wat(abi.V0_2_1, [], {"proxy_on_request_headers": "(call $outer)"},
                    "(func $inner (result i32) unreachable) (func $outer (result i32) (call $inner))")  # fmt: skip
    trap = Plugin.load(wat.encode()).request().trap
    assert [frame.function for frame in trap.frames[:2]] == ["inner", "outer"]
    assert "inner" in trap.details


def test_a_frame_names_file_and_line_when_it_knows_them():
    assert str(Frame("f", 1, 16, "src/lib.rs", 7)) == "f at src/lib.rs:7"
    assert str(Frame("f", 1, 16)) == "f at offset 0x10"


C_SOURCE = """
__attribute__((export_name("malloc"))) void *allocate(unsigned size) { return (void *)1024; }
__attribute__((export_name("proxy_abi_version_0_2_1"))) void marker(void) {}
__attribute__((noinline)) static int inner(int x) {
  if (x > 0)
    __builtin_trap();
  return 0;
}
__attribute__((export_name("proxy_on_request_headers"))) int headers(int context, int count, int end) {
  return inner(context) + 1;
}
"""


def test_debug_information_gives_file_and_line(tmp_path):
    pytest.importorskip("ziglang")
    (tmp_path / "plugin.c").write_text(C_SOURCE)
    command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-freestanding", "-O1", "-g", "-nostdlib"]
    command += ["-Wl,--no-entry", "plugin.c", "-o", "plugin.wasm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for _ in range(2):
        trap = Plugin.load(tmp_path / "plugin.wasm").request().trap
        lines = [(frame.function, Path(frame.file).name, frame.line) for frame in trap.frames]
        assert lines == [("inner", "plugin.c", 5), ("headers", "plugin.c", 10)]
