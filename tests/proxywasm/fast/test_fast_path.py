"""What the fast path must keep apart, and where it must step aside."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from labkit.proxywasm import (
    DeadlineExceeded,
    FakeClock,
    Host,
    Limits,
    LogLevel,
    Module,
    Plugin,
    Response,
    Trap,
    abi,
)
from labkit.proxywasm._fast import walk
from labkit.proxywasm._fast.layout import LOG, MEMORY
from proxywasm.probe import probe_wat

from .interpreter import OUT, Op, Program, Strings, forget, install, interpreter, records

STRINGS = Strings()


def _text(value: bytes) -> tuple[int, int]:
    return STRINGS.place(value)


def get_header(name: bytes, kind: int = 0) -> Op:
    return Op("proxy_get_header_map_value", (kind, *_text(name), OUT, OUT + 4))


def set_header(name: bytes, value: bytes, kind: int = 0) -> Op:
    return Op("proxy_replace_header_map_value", (kind, *_text(name), *_text(value)))


def get_property(path: bytes) -> Op:
    return Op("proxy_get_property", (*_text(path), OUT, OUT + 4))


def log(message: bytes, level: int = 2) -> Op:
    return Op("proxy_log", (level, *_text(message)))


def reply(body: bytes, status: int = 200) -> Op:
    return Op("proxy_send_local_response", (status, 0, 0, *_text(body), 0, 0, 0xFFFFFFFF))


GET_BODY = Op("proxy_get_buffer_bytes", (0, 0, 0x7FFFFFFF, OUT, OUT + 4))


def load(programs: dict[str, Program], *, host: Host | None = None, limits: Limits | None = None) -> Plugin:
    plugin = Plugin.load(interpreter(), host=host or Host(clock=FakeClock()), limits=limits)
    install(plugin, programs, STRINGS)
    return plugin


def on_request(*ops: Op, answer: int = 0) -> dict[str, Program]:
    return {"proxy_on_request_headers": Program(ops, answer)}


@pytest.fixture
def python_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of walks in which a host function in Python needed the stream."""
    asked: list[str] = []
    materialize = walk.Walk.materialize

    def note(self: walk.Walk) -> Any:
        context = materialize(self)
        asked.append("materialized")
        return context

    monkeypatch.setattr(walk.Walk, "materialize", note)
    return asked


@pytest.mark.parametrize(
    "ops",
    [
        pytest.param((get_header(b":path"), get_header(b"missing"), reply(b"hello")), id="headers and a reply"),
        pytest.param((set_header(b"a", b"b"), set_header(b":path", b"/x"), get_header(b"a")), id="changed headers"),
        pytest.param((get_property(b"route_name"), get_property(b"own")), id="properties"),
        pytest.param(
            (Op("proxy_set_property", (*_text(b"own"), *_text(b"1"))), get_property(b"own")), id="own property"
        ),
        pytest.param((Op("proxy_get_header_map_pairs", (0, OUT, OUT + 4)),), id="pairs"),
        pytest.param((log(b"dropped", level=0), Op("proxy_get_log_level", (OUT,))), id="a line below the level"),
        pytest.param((Op("proxy_get_current_time_nanoseconds", (OUT,)),), id="a clock that stands still"),
    ],
)
def test_a_request_that_is_known_asks_python_nothing(ops: tuple[Op, ...], python_calls: list[str]) -> None:
    plugin = load(on_request(*ops), host=Host(clock=FakeClock(), flavour="higress"))
    results = [plugin.request(route="default/foo") for _ in range(3)]
    del python_calls[:]
    assert plugin.request(route="default/foo") == results[-1]
    assert python_calls == []
    assert plugin.vm.fast is not None
    assert plugin.vm.fast.handed_over == 0


@pytest.mark.parametrize("version", abi.VERSIONS)
def test_every_abi_version_is_walked(version: str) -> None:
    body = "(drop (call $proxy_remove_header_map_value (i32.const 0) (i32.const 256) (i32.const 1))) (i32.const 0)"
    source = probe_wat(version, callbacks={"proxy_on_request_headers": body}, extra='(data (i32.const 256) "a")')
    plugin = Plugin.load(source.encode())
    results = [plugin.request(headers={"a": "1", "b": "2"}) for _ in range(3)]
    assert all(result.forwarded is not None and "a" not in result.forwarded.headers for result in results)
    assert all(result.forwarded is not None and "b" in result.forwarded.headers for result in results)
    assert plugin.vm.fast is not None
    assert plugin.vm.fast.handed_over == 0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"a": "1"}, id="mapping"),
        pytest.param([("a", "1")], id="pairs"),
        pytest.param([["a", b"1"]], id="lists"),
        pytest.param(iter([("a", "1")]), id="iterator"),
    ],
)
def test_headers_come_in_any_shape(headers: Any) -> None:
    forwarded = load({}).request(headers=headers, body=bytearray(b"body")).forwarded  # type: ignore[arg-type]
    assert forwarded is not None
    assert forwarded.headers["a"] == "1"
    assert forwarded.body == b"body"


def test_every_request_gets_its_own_headers_back_from_many_threads() -> None:
    plugin = load(on_request(get_header(b"who"), set_header(b"seen", b"yes")))
    wrong: list[tuple[str, Any]] = []

    def send(name: str) -> None:
        for _ in range(100):
            forwarded = plugin.request(headers={"who": name}).forwarded
            if forwarded is None or forwarded.headers.get("who") != name or forwarded.headers.get("seen") != "yes":
                wrong.append((name, forwarded))

    threads = [threading.Thread(target=send, args=(f"thread {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_streams_under_way_at_once_do_not_see_each_other() -> None:
    plugin = load(
        {
            "proxy_on_request_headers": Program((get_header(b"who"),)),
            "proxy_on_response_headers": Program((get_header(b"who", kind=2), get_header(b"who", kind=0))),
        }
    )
    plugin.request()
    with plugin.stream() as first, plugin.stream() as second:
        for number, stream in enumerate((first, second)):
            stream.request_headers([(":method", "GET"), (":path", "/"), ("who", f"client {number}")], True)
        forget(plugin)
        for number, stream in enumerate((first, second)):
            stream.response_headers([(":status", "200"), ("who", f"server {number}")], True)
        seen = records(plugin)
    assert b"server 0" in seen
    assert b"server 1" in seen
    assert b"client" not in seen


def test_a_request_sent_by_a_host_function_leaves_the_outer_one_as_it_is() -> None:
    host = Host(clock=FakeClock())
    plugin = load(
        on_request(
            get_header(b"who"),
            Op("proxy_call_foreign_function", (*_text(b"again"), 0, 0, OUT, OUT + 4)),
            get_header(b"who"),
        ),
        host=host,
    )
    nested: list[Any] = []

    def again(vm: Any, data: bytes) -> bytes:
        if not nested:
            nested.append(None)
            nested[0] = plugin.request(headers={"who": "inner"}).forwarded
        return b""

    host.foreign_functions["again"] = again
    outer = plugin.request(headers={"who": "outer"})
    assert outer.forwarded is not None
    assert outer.forwarded.headers["who"] == "outer"
    assert nested[0].headers["who"] == "inner"
    assert records(plugin).count(b"outer") == 2


def test_a_body_bigger_than_the_resident_memory_is_left_to_python() -> None:
    limits = Limits(body=2 * MEMORY)
    plugin = load({"proxy_on_request_body": Program((GET_BODY,))}, limits=limits)
    body = b"x" * MEMORY
    for _ in range(2):
        forwarded = plugin.request("POST", body=body).forwarded
        assert forwarded is not None
        assert forwarded.body == body


def test_log_lines_beyond_the_log_area_are_kept_in_order() -> None:
    line = b"0123456789abcdef" * 1024
    count = 2 * (MEMORY - LOG) // len(line)
    ops = [log(line if number % 2 else b"short") for number in range(count)]
    for fast in (True, False):
        plugin = load(on_request(*ops), host=Host(clock=FakeClock(), log_level=LogLevel.INFO, fast=fast))
        plugin.request()
        lines = [logged.message for logged in plugin.request().logs]
        assert lines == [(line if number % 2 else b"short").decode() for number in range(count)]


@pytest.mark.parametrize("body", ["(loop (br 0)) (i32.const 0)", "(unreachable)"])
def test_a_walk_that_fails_is_answered_as_any_other(body: str) -> None:
    source = f"""(module (memory (export "memory") 1)
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "malloc") (param i32) (result i32) (i32.const 1024))
      (func (export "proxy_on_context_create") (param i32 i32))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body}))"""
    results = []
    for fast in (True, False):
        limits = Limits(deadline=0.05)
        plugin = Plugin.load(Module.load(source.encode(), limits=limits), host=Host(fast=fast), limits=limits)
        result = plugin.request()
        results.append((result.status, result.sent_by, result.details, result.trap and result.trap.callback))
        assert isinstance(result.trap, DeadlineExceeded if "loop" in body else Trap)
        assert plugin.request().status == 503
    assert results[0] == results[1]
    assert results[0][0] == 503


def test_a_plugin_that_always_needs_python_is_not_walked_for_ever(python_calls: list[str]) -> None:
    plugin = load(on_request(get_property(b"request\0path")))
    for _ in range(40):
        assert plugin.request(upstream=Response(204)).status == 204
    assert len(python_calls) < 40


def test_the_responders_memory_does_not_count_as_the_plugins() -> None:
    plugin = load(on_request(get_header(b":path")), limits=Limits(memory=1 << 20))
    assert plugin.request().status == 200


def test_a_watched_plugin_is_seen_calling() -> None:
    plugin = load(on_request(get_header(b":path"), reply(b"hello")))
    for _ in range(3):
        plugin.request()
    with plugin.trace() as trace:
        plugin.request()
    assert "proxy_get_header_map_value" in {call.function for call in trace.calls}
    assert plugin.request().text == "hello"


@pytest.mark.parametrize("phase", ["proxy_on_request_body", "proxy_on_response_headers", "proxy_on_response_body"])
@pytest.mark.parametrize("also", [(), (set_header(b"a", b"b", kind=2),)], ids=["alone", "after a change"])
def test_a_local_reply_from_a_later_phase_is_the_same(phase: str, also: tuple[Op, ...]) -> None:
    results = []
    for fast in (True, False):
        plugin = load({phase: Program((*also, reply(b"late", 418)))}, host=Host(clock=FakeClock(), fast=fast))
        results.append([plugin.request("POST", body=b"body", upstream=Response(200, (), "answer")) for _ in range(3)])
    assert results[0] == results[1]
