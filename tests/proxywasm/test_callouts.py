"""Call-outs answered by handlers: at once, late, never, wrongly."""

from __future__ import annotations

import asyncio
import gc
import threading

import httpx
import pytest

from labkit.proxywasm import Delayed, FakeClock, Host, Reset, Response, SystemClock
from labkit.proxywasm.errors import HostCallFailed

from .probe import Probe

# Ask the cluster "up" for the request's path, pause, and reply with what it answered.
CALL = """
  (drop (call $proxy_http_call (i32.const 16) (i32.const 2) (i32.const 32) (i32.const 61) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 8))) (i32.const 1)"""
ANSWER = """
  (drop (call $proxy_set_effective_context (i32.const 2)))
  (drop (call $proxy_get_header_map_value (i32.const 6) (i32.const 24) (i32.const 7) (i32.const 0) (i32.const 4)))
  (if (i32.eqz (local.get 2)) (then (i32.store (i32.const 4) (i32.const 0))))
  (drop (call $proxy_send_local_response (i32.const 299) (i32.const 0) (i32.const 0) (i32.load (i32.const 0))
    (i32.load (i32.const 4)) (i32.const 0) (i32.const 0) (i32.const -1)))"""
PAIRS = b"\x03\0\0\0\x07\0\0\0\x03\0\0\0\x05\0\0\0\x01\0\0\0\x0a\0\0\0\x01\0\0\0:method\0GET\0:path\0/\0:authority\0a\0"


def load(handler, clock=None) -> Probe:
    host = Host(clock=clock or FakeClock(), clusters={"up": handler})
    callbacks = {"proxy_on_request_headers": CALL, "proxy_on_http_call_response": ANSWER}
    probe = Probe(host=host, callbacks=callbacks)
    probe.vm.memory.write(16, b"up")
    probe.vm.memory.write(24, b":status")
    probe.vm.memory.write(32, PAIRS)
    return probe


async def soon(request):
    await asyncio.sleep(0)
    return Response(202)


def down(request):
    raise ConnectionRefusedError


def cut(request):
    raise Reset


@pytest.mark.parametrize(
    ("handler", "seen"),
    [
        (lambda request: Response(201), "201"),
        (lambda request: 204, "204"),
        (lambda request: "text", "200"),
        (lambda request: httpx.Response(207, content=b"x"), "207"),
        (soon, "202"),
        (lambda request: Delayed(Response(203), 0.4), "203"),
        (lambda request: Delayed(Response(203), 0.6), "504"),
        (lambda request: None, "504"),
        (down, "503"),
        (cut, ""),
    ],
)
def test_the_answer_reaches_the_plugin(handler, seen):
    result = load(handler).plugin.request()
    assert (result.status, result.text) == (299, seen)


def test_a_fake_clock_makes_a_time_out_take_no_time():
    clock = FakeClock()
    before = clock.monotonic_ns()
    load(lambda request: None, clock).plugin.request()
    assert clock.monotonic_ns() - before == 500_000_000


def test_the_handler_sees_the_request():
    seen = []
    load(lambda request: seen.append(request) or 200).plugin.request()
    (request,) = seen
    assert (request.method, request.path, request.authority, request.cluster) == ("GET", "/", "a", "up")
    assert (request.timeout, request.url) == (0.5, "http://a/")


@pytest.mark.parametrize("handler", [lambda request: 1 / 0, lambda request: object()])
def test_a_handler_that_fails_is_an_error_of_the_test(handler):
    with pytest.raises(HostCallFailed):
        load(handler).plugin.request()


def test_two_streams_wait_at_once():
    probe = load(lambda request: Delayed(Response(200), 0.2))
    streams = [probe.stream() for _ in range(2)]
    for stream in streams:
        stream.request_headers({":method": "GET", ":path": "/", ":authority": "a"}, end_of_stream=True)
    assert all(stream.request_paused for stream in streams)
    probe.host.advance(0.3)
    assert streams[0].downstream.complete


async def hang(request):
    await asyncio.Event().wait()


def test_a_coroutine_that_never_ends_runs_into_the_calls_time_out():
    probe = load(hang)
    probe.host.patience = 0.01
    assert probe.plugin.request().text == "504"


@pytest.mark.parametrize("clock", [FakeClock(), SystemClock()])
def test_a_request_waits_no_longer_than_told(clock):
    probe = load(hang, clock)
    probe.host.patience = 0.01
    assert probe.plugin.request(timeout=0.05).text == "stream timeout"


def serving() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "labkit-callouts"}


def test_the_event_loop_of_coroutine_handlers_ends_with_its_host():
    gc.collect()
    others = serving()
    probe = load(soon)
    probe.plugin.request()
    (thread,) = serving() - others
    probe.host.close()
    thread.join(10)
    assert not thread.is_alive()
    probe.plugin.request()
    (thread,) = serving() - others
    del probe
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
