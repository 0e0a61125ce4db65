"""Phases in order, pausing and buffering, local replies from every phase, chains."""

from __future__ import annotations

import pytest

from labkit.proxywasm import Action, Chain, FakeClock, Host, Plugin, Response, StreamClosed, abi
from labkit.proxywasm.enums import StreamType
from labkit.proxywasm.errors import StreamStuck

from .probe import Probe, probe_wat

GET = {":method": "GET", ":path": "/", ":authority": "a"}
PHASES = [f"proxy_on_{side}_{part}" for side in ("request", "response") for part in ("headers", "body", "trailers")]
CONTINUE, PAUSE = "(i32.const 0)", "(i32.const 1)"
REPLY = (
    "(drop (call $proxy_send_local_response (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 3)"
    " (i32.const 0) (i32.const 0) (i32.const -1))) (i32.const 0)"
)
FUNCTIONS = [
    f
    for f in abi.host_functions(abi.V0_2_1).values()
    if f.short_name in ("log", "send_local_response", "continue_stream", "add_header_map_value", "set_buffer_bytes")
]


def load(callbacks: dict[str, str], *, host: Host | None = None, **options: object) -> Plugin:
    """A plugin whose phases do what `callbacks` says; 16 holds "abc", 32 "x-n", 48 its name's letter."""
    wat = probe_wat(abi.V0_2_1, FUNCTIONS, callbacks, '(data (i32.const 16) "abc") (data (i32.const 32) "x-n")')
    return Plugin.load(wat.encode(), host=host, **options)


def numbered(action: str) -> dict[str, str]:
    """Every phase logs its own number, then does `action`."""
    log = "(drop (call $proxy_log (i32.const 2) (i32.const {}) (i32.const 1)))"
    data = {name: log.format(16 + n) + action for n, name in enumerate(PHASES)}
    return data | {
        "proxy_on_log": log.format(22),
        "proxy_on_done": log.format(23) + "(i32.const 1)",
        "proxy_on_delete": log.format(24),
    }


def order(stream) -> str:
    return "".join(line.message for line in stream.logs)


def test_phases_come_in_order_then_log_done_delete(host):
    wat = probe_wat(abi.V0_2_1, FUNCTIONS, numbered(CONTINUE), '(data (i32.const 16) "HBThbtLDX")')
    plugin = Plugin.load(wat.encode(), host=host)
    stream = plugin.stream()
    stream.request_headers(GET)
    stream.request_body(b"1")
    stream.request_body(b"2")
    stream.request_trailers({"t": "1"})
    stream.response_headers({":status": "200"})
    stream.response_body(b"3")
    stream.response_trailers({"t": "2"})
    assert stream.upstream.complete
    assert stream.downstream.complete
    stream.close()
    assert order(stream) == "HBBThbtLDX"
    assert (bytes(stream.upstream.body), stream.upstream.chunks) == (b"12", [1, 1])


def test_what_is_paused_does_not_pass(host):
    plugin = load({"proxy_on_request_headers": PAUSE}, host=host)
    stream = plugin.stream()
    assert stream.request_headers(GET) is Action.PAUSE
    assert stream.request_body(b"kept back", end_of_stream=True) is Action.PAUSE
    assert stream.upstream.headers is None
    stream.contexts[0].continue_stream(StreamType.REQUEST)
    plugin.vm.run_deferred()
    assert (stream.upstream.headers is not None, bytes(stream.upstream.body)) == (True, b"kept back")
    assert stream.upstream.complete


def test_a_buffering_plugin_sees_all_of_the_body_at_its_end(host):
    replace = (
        "(if (i32.eqz (local.get 2)) (then (return (i32.const 1))))"
        "(drop (call $proxy_set_buffer_bytes (i32.const 0) (i32.const 0) (local.get 1) (i32.const 16) (i32.const 3)))"
        "(i32.const 0)"
    )
    plugin = load({"proxy_on_request_body": replace}, host=host)
    result = plugin.request("POST", body=b"0123456789", chunk_size=3)
    assert result.forwarded is not None
    assert result.forwarded.body == b"abc"


def test_adding_trailers_during_the_last_chunk(host):
    add = (
        "(drop (call $proxy_add_header_map_value (i32.const {}) (i32.const 32) (i32.const 3) (i32.const 16)"
        " (i32.const 3))) (i32.const 0)"
    )
    callbacks = {"proxy_on_request_body": add.format(1), "proxy_on_response_body": add.format(3)}
    result = load(callbacks, host=host).request("POST", body=b"x", upstream="y")
    assert list(result.forwarded.trailers) == [("x-n", "abc")]
    assert list(result.trailers) == [("x-n", "abc")]


@pytest.mark.parametrize("phase", PHASES)
def test_a_local_reply_from_each_phase(host, phase):
    plugin = load({phase: REPLY}, host=host)
    result = plugin.request(
        "POST",
        body=b"in",
        trailers={"t": "1"},
        upstream=Response(200, {"a": "b"}, b"out", [("t", "2")]),
    )
    if phase in ("proxy_on_response_body", "proxy_on_response_trailers"):
        assert result.reset is not None, "the response's headers are on their way already"
        return
    assert (result.status, result.text, result.sent_by) == (418, "abc", "plugin")
    assert (result.forwarded is None) is phase.startswith("proxy_on_request")


def test_later_phases_see_a_local_reply(host):
    add = (
        "(drop (call $proxy_add_header_map_value (i32.const 2) (i32.const 32) (i32.const 3) (i32.const 16)"
        " (i32.const 3))) (i32.const 0)"
    )
    plugin = load({"proxy_on_request_headers": REPLY, "proxy_on_response_headers": add}, host=host)
    result = plugin.request()
    assert list(result.headers) == [
        (":status", "418"),
        ("content-length", "3"),
        ("content-type", "text/plain"),
        ("x-n", "abc"),
    ]


def test_head_gets_no_body_and_grpc_gets_trailers_only(host):
    plugin = load({"proxy_on_request_headers": REPLY}, host=host)
    assert plugin.request("HEAD").body == b""
    grpc = plugin.request("POST", headers={"content-type": "application/grpc"})
    assert (grpc.status, grpc.headers["grpc-status"], grpc.headers["grpc-message"]) == (200, "2", "abc")


def test_a_chain_passes_requests_forwards_and_responses_backwards():
    add = (
        "(drop (call $proxy_add_header_map_value (i32.const {}) (i32.const 32) (i32.const 3) (i32.const 16)"
        " (i32.const 1))) (i32.const 0)"
    )
    plugins = []
    for letter in "xyz":
        callbacks = {"proxy_on_request_headers": add.format(0), "proxy_on_response_headers": add.format(2)}
        data = f'(data (i32.const 16) "{letter}") (data (i32.const 32) "x-n")'
        plugins.append(Plugin.load(probe_wat(abi.V0_2_1, FUNCTIONS, callbacks, data).encode()))
    result = Chain(*plugins).request()
    assert result.forwarded.headers.get_all("x-n") == ["x", "y", "z"]
    assert result.headers.get_all("x-n") == ["z", "y", "x"]


def test_a_local_reply_passes_the_whole_chain_and_not_the_upstream():
    stop, watch = load({"proxy_on_request_headers": REPLY}), load(numbered(CONTINUE))
    assert Chain(watch, stop).request().status == 418
    result = Chain(stop, watch).request()
    assert (result.status, result.forwarded) == (418, None)


def test_a_stream_that_nothing_will_continue_ends(host):
    result = load({"proxy_on_request_headers": PAUSE}, host=host).request()
    assert (result.status, result.text, result.sent_by) == (504, "stream timeout", "host")
    assert isinstance(result.problems[0], StreamStuck)


def test_a_stream_that_waits_for_ticks_ends_in_time():
    host = Host(clock=FakeClock())
    probe = Probe(host=host, callbacks={"proxy_on_request_headers": PAUSE, "proxy_on_tick": ""})
    probe.call("proxy_set_tick_period_milliseconds", 100)
    before = host.clock.monotonic_ns()
    assert probe.plugin.request(timeout=3).status == 504
    assert host.clock.monotonic_ns() - before == 3_000_000_000


def test_a_response_without_status_is_a_bad_gateway(host):
    stream = load({}, host=host).stream()
    stream.request_headers(GET, end_of_stream=True)
    stream.response_headers({"a": "b"}, end_of_stream=True)
    assert stream.downstream.headers.get(b":status") == b"502"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda s: s.request_body(b"x"),
        lambda s: (s.request_headers(GET), s.request_headers(GET)),
        lambda s: (s.request_headers(GET, end_of_stream=True), s.request_body(b"x")),
        lambda s: (s.request_headers(GET), s.response_body(b"x")),
        lambda s: (s.close(), s.request_headers(GET)),
    ],
)
def test_phases_out_of_order_are_refused(misuse):
    with pytest.raises(StreamClosed):
        misuse(load({}).stream())


def test_plugins_with_the_same_vm_id_configuration_and_code_share_a_vm():
    host = Host()
    code = probe_wat(abi.V0_2_1, [], {}).encode()
    same = [Plugin.load(code, host=host, vm_id="v", vm_config="c", config=str(n)) for n in range(2)]
    other = Plugin.load(code, host=host, vm_id="v", vm_config="d")
    assert same[0].vm is same[1].vm is not other.vm
    assert same[0].context.id != same[1].context.id


def test_shutdown_can_be_deferred():
    probe = Probe(callbacks={"proxy_on_done": "(i32.const 0)"})
    probe.plugin.close()
    assert probe.plugin.context.done_pending
    probe.call("proxy_done")
    assert probe.plugin.context.done
    probe.plugin.close()
    with pytest.raises(StreamClosed):
        probe.plugin.request()


def test_callbacks_that_come_beside_the_phases(host):
    log = "(drop (call $proxy_log (i32.const {}) (i32.const 0) (i32.const 0)))"
    callbacks = {
        "proxy_on_request_metadata": log.format(0) + CONTINUE,
        "proxy_on_response_metadata": log.format(1) + CONTINUE,
        "proxy_on_foreign_function": log.format(2),
        "proxy_validate_configuration": log.format(3) + "(i32.eq (local.get 1) (i32.const 2))",
    }
    plugin = Probe(host=host, callbacks=callbacks).plugin
    stream = plugin.stream()
    stream.request_headers(GET)
    stream.request_metadata({"a": "1"})
    stream.response_headers({":status": "200"})
    stream.response_metadata({"a": "1"})
    assert [line.level for line in stream.logs] == [0, 1]
    plugin.notify(7, b"data")
    assert plugin.validate("ab")
    assert not plugin.validate("abc")
    assert [line.level for line in plugin.logs] == [2, 3, 3]


def test_a_host_tells_a_plugin_something_out_of_turn(host):
    read = (
        "(drop (call $proxy_get_buffer_bytes (i32.const 8) (i32.const 0) (local.get 2) (i32.const 0) (i32.const 4)))"
        "(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))"
    )
    plugin = Probe(host=host, callbacks={"proxy_on_foreign_function": read}).plugin
    plugin.notify(7, b"data")
    assert [line.message for line in plugin.logs] == ["data"]
