"""Each host function of the ABI's table, called from a plugin with good and bad arguments."""

from __future__ import annotations

import pytest

from labkit.proxywasm import Host, LogLevel, Status, abi
from labkit.proxywasm.enums import BufferType, MapType, StreamType

from .probe import Probe

OK, NOT_FOUND, BAD = Status.OK, Status.NOT_FOUND, Status.BAD_ARGUMENT
FAULT = Status.INVALID_MEMORY_ACCESS
REQUEST = [(":authority", "a"), (":path", "/p"), (":method", "GET"), (":scheme", "http"), ("x-a", "1"), ("x-a", "2")]
PAUSE = {"proxy_on_request_headers": "(i32.const 1)"}


@pytest.fixture
def paused(host):
    """A probe that pauses every phase, with a stream in the request headers phase."""
    names = [f"proxy_on_{side}_{part}" for side in ("request", "response") for part in ("headers", "body", "trailers")]
    probe = Probe(host=host, callbacks=dict.fromkeys(names, "(i32.const 1)"))
    stream = probe.stream()
    stream.request_headers(REQUEST)
    return probe, stream, stream.contexts[0]


def test_log(probe):
    assert probe.call("proxy_log", LogLevel.WARN, "hello") == (OK,)
    assert [(line.level, line.message) for line in probe.plugin.logs] == [(LogLevel.WARN, "hello")]
    assert probe.raw("proxy_log", 6, 0, 0) == BAD
    assert probe.raw("proxy_log", 2, 0xFFFFFFF0, 100) == FAULT


def test_lines_below_the_hosts_level_are_dropped():
    probe = Probe(host=Host(log_level=LogLevel.ERROR))
    assert probe.call("proxy_log", LogLevel.WARN, "quiet") == (OK,)
    assert probe.plugin.logs == []
    assert probe.call("proxy_get_log_level") == (OK, LogLevel.ERROR)


def test_get_log_level(probe):
    assert probe.call("proxy_get_log_level") == (OK, LogLevel.TRACE)
    assert probe.raw("proxy_get_log_level", 0xFFFFFFFE) == FAULT


def test_get_current_time_nanoseconds(probe):
    assert probe.call("proxy_get_current_time_nanoseconds") == (OK, probe.host.clock.time_ns())
    assert probe.raw("proxy_get_current_time_nanoseconds", 0xFFFFFFFA) == FAULT


def test_set_tick_period_milliseconds(host):
    tick = "(drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 0)))"
    probe = Probe(host=host, callbacks={"proxy_on_tick": tick})
    assert probe.call("proxy_set_tick_period_milliseconds", 100) == (OK,)
    host.advance(0.35)
    assert len(probe.plugin.logs) == 3
    assert probe.call("proxy_set_tick_period_milliseconds", 0) == (OK,)
    host.advance(1)
    assert len(probe.plugin.logs) == 3


def test_setting_the_tick_period_anew_begins_anew(host):
    tick = (
        "(drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 0)))"
        "(drop (call $proxy_set_tick_period_milliseconds (i32.const 200)))"
    )
    probe = Probe(host=host, callbacks={"proxy_on_tick": tick})
    probe.call("proxy_set_tick_period_milliseconds", 100)
    host.advance(0.05)
    probe.call("proxy_set_tick_period_milliseconds", 100)
    host.advance(0.09)
    assert probe.plugin.logs == []
    host.advance(0.01)
    assert len(probe.plugin.logs) == 1
    host.advance(0.4)
    assert len(probe.plugin.logs) == 3


def test_get_header_map_value(paused):
    probe, _, context = paused
    for name, expected in [("x-a", b"1"), ("X-A", b"1"), (":path", b"/p"), ("host", b"a"), (":authority", b"a")]:
        assert probe.call("proxy_get_header_map_value", 0, name, context=context) == (OK, expected)
    assert probe.call("proxy_get_header_map_value", 0, "nothing", context=context) == (NOT_FOUND,)
    assert probe.call("proxy_get_header_map_value", 8, "x", context=context) == (BAD,)
    assert probe.call("proxy_get_header_map_value", MapType.RESPONSE_HEADERS, "x", context=context) == (BAD,)
    assert probe.call("proxy_get_header_map_value", 0, "x-a") == (BAD,), "the root context has no request"


def test_a_missing_header_is_empty_in_the_oldest_abi(host):
    probe = Probe(version=abi.V0_1_0, host=host, callbacks=PAUSE)
    stream = probe.stream()
    stream.request_headers(REQUEST)
    assert probe.call("proxy_get_header_map_value", 0, "nothing", context=stream.contexts[0]) == (OK, b"")


def test_get_header_map_pairs(paused):
    probe, _, context = paused
    result, pairs = probe.call("proxy_get_header_map_pairs", 0, context=context)
    assert (result, pairs) == (OK, [(name.encode(), value.encode()) for name, value in REQUEST])
    assert probe.call("proxy_get_header_map_pairs", 2, context=context) == (OK, b"")
    assert probe.call("proxy_get_header_map_pairs", 8, context=context) == (BAD,)


def test_get_header_map_size(paused):
    probe, _, context = paused
    expected = sum(len(name) + len(value) for name, value in REQUEST)
    assert probe.call("proxy_get_header_map_size", 0, context=context) == (OK, expected)
    assert probe.call("proxy_get_header_map_size", 2, context=context) == (BAD,)
    assert probe.call("proxy_get_header_map_size", 8, context=context) == (BAD,)


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        ("proxy_add_header_map_value", ("X-A", "3"), ["1", "2", "3"]),
        ("proxy_replace_header_map_value", ("X-A", "3"), ["3"]),
        ("proxy_remove_header_map_value", ("X-A",), []),
    ],
)
def test_changing_headers(paused, function, args, expected):
    probe, stream, context = paused
    assert probe.call(function, 0, *args, context=context) == (OK,)
    probe.call("proxy_continue_stream", StreamType.REQUEST, context=context)
    assert [v.decode() for k, v in stream.upstream.headers.pairs if k == b"x-a"] == expected
    for kind in (8, MapType.HTTP_CALL_RESPONSE_HEADERS, MapType.RESPONSE_HEADERS):
        assert probe.call(function, kind, *args, context=context) == (BAD,)


def test_adding_to_an_inline_header_joins_the_values(paused):
    probe, _, context = paused
    for value in ("one", "two"):
        assert probe.call("proxy_add_header_map_value", 0, "user-agent", value, context=context) == (OK,)
    assert probe.call("proxy_get_header_map_value", 0, "user-agent", context=context) == (OK, b"one,two")


def test_set_header_map_pairs(paused):
    probe, _, context = paused
    pairs = [("b", "1"), (":path", "/"), ("A", "2"), ("b", "3")]
    assert probe.call("proxy_set_header_map_pairs", 0, pairs, context=context) == (OK,)
    expected = [(b":path", b"/"), (b"b", b"1"), (b"a", b"2"), (b"b", b"3")]
    assert probe.call("proxy_get_header_map_pairs", 0, context=context) == (OK, expected)
    assert probe.call("proxy_set_header_map_pairs", 2, pairs, context=context) == (BAD,)


def test_a_malformed_map_counts_as_empty_and_is_reported(paused):
    probe, stream, context = paused
    address, size = probe.put(b"\x07\0\0\0nonsense")
    assert probe.raw("proxy_set_header_map_pairs", 0, address, size, context=context) == OK
    assert probe.call("proxy_get_header_map_pairs", 0, context=context) == (OK, b"")
    (problem,) = stream.problems
    assert (problem.function, problem.argument) == ("proxy_set_header_map_pairs", "pairs")
    assert "malformed" in problem.message


def test_get_buffer_bytes(paused):
    probe, stream, context = paused
    probe.call("proxy_continue_stream", StreamType.REQUEST, context=context)
    stream.request_body(b"hello")
    for start, length, expected in [(0, 100, b"hello"), (1, 2, b"el"), (5, 1, b""), (9, 1, b""), (0, 0, b"")]:
        assert probe.call("proxy_get_buffer_bytes", 0, start, length, context=context) == (OK, expected)
    assert probe.call("proxy_get_buffer_bytes", 42, 0, 1, context=context) == (BAD,)
    vm_config = probe.call("proxy_get_buffer_bytes", BufferType.VM_CONFIGURATION, 0, 99)
    assert vm_config == (OK, b"vm config")
    assert probe.call("proxy_get_buffer_bytes", BufferType.PLUGIN_CONFIGURATION, 0, 99) == (NOT_FOUND,)


def test_get_buffer_status(paused):
    probe, stream, context = paused
    probe.call("proxy_continue_stream", StreamType.REQUEST, context=context)
    stream.request_body(b"hello")
    assert probe.call("proxy_get_buffer_status", 0, context=context) == (OK, 5, 0)
    assert probe.call("proxy_get_buffer_status", 42, context=context) == (BAD,)


@pytest.mark.parametrize(
    ("start", "length", "status", "expected"),
    [
        (0, 0, OK, b"NEWhello"),
        (0, 5, OK, b"NEW"),
        (0, 99, OK, b"NEW"),
        (0, 2, OK, b"NEWllo"),
        (5, 0, OK, b"helloNEW"),
        (99, 3, OK, b"helloNEW"),
        (2, 1, BAD, b"hello"),
    ],
)
def test_set_buffer_bytes(paused, start, length, status, expected):
    probe, stream, context = paused
    probe.call("proxy_continue_stream", StreamType.REQUEST, context=context)
    stream.request_body(b"hello", end_of_stream=True)
    assert probe.call("proxy_set_buffer_bytes", 0, start, length, "NEW", context=context) == (status,)
    probe.call("proxy_continue_stream", StreamType.REQUEST, context=context)
    assert bytes(stream.upstream.body) == expected


def test_a_configuration_cannot_be_changed(probe):
    assert probe.call("proxy_set_buffer_bytes", BufferType.VM_CONFIGURATION, 0, 0, "x") == (BAD,)
    assert probe.call("proxy_set_buffer_bytes", 42, 0, 0, "x") == (BAD,)


def test_get_configuration_of_the_oldest_abi(host):
    probe = Probe(version=abi.V0_1_0, host=host)
    assert probe.call("proxy_get_configuration") == (OK, b"vm config")


def test_get_property(paused):
    probe, stream, context = paused
    stream.info.route = "r"
    for path, expected in [
        ("request\0path", b"/p"),
        ("request\0headers\0x-a", b"1,2"),
        ("plugin_name", b"probe"),
        ("plugin_root_id", b"root"),
        ("plugin_vm_id", b"vm"),
        ("route_name", b"r"),
        ("source\0address", b"127.0.0.1:50000"),
        ("source\0port", (50000).to_bytes(8, "little")),
    ]:
        assert probe.call("proxy_get_property", path, context=context) == (OK, expected), path
    assert probe.call("proxy_get_property", "nothing", context=context) == (NOT_FOUND,)
    assert probe.call("proxy_get_property", "request\0nothing", context=context) == (NOT_FOUND,)


@pytest.mark.parametrize(
    ("version", "flavour", "known"),
    [
        (abi.V0_2_100, None, True),
        (abi.V0_2_1, None, False),
        (abi.V0_2_1, "higress", True),
        (abi.V0_2_100, "envoy", False),
    ],
)
def test_higress_knows_the_route_before_the_router_ran(version, flavour, known):
    probe = Probe(version=version, host=Host(flavour=flavour), callbacks=PAUSE)
    stream = probe.stream()
    stream.info.route = "default/foo"
    stream.request_headers(REQUEST)
    answer = probe.call("proxy_get_property", "route_name", context=stream.contexts[0])
    assert answer == ((OK, b"default/foo") if known else (NOT_FOUND,))
    xds = probe.call("proxy_get_property", "xds\0route_name", context=stream.contexts[0])
    assert xds == (OK, b"default/foo"), "Envoy has it under another name"


def test_properties_of_the_caller_win(paused):
    probe, stream, context = paused
    stream.info.properties = {"request.path": "/other", "node": {"id": "n"}, "answer": 42, "yes": True}
    for path, expected in [
        ("request\0path", b"/other"),
        ("node\0id", b"n"),
        ("answer", (42).to_bytes(8, "little")),
        ("yes", b"\1"),
    ]:
        assert probe.call("proxy_get_property", path, context=context) == (OK, expected)


def test_set_property(paused):
    probe, _, context = paused
    assert probe.call("proxy_set_property", "mine", "value", context=context) == (OK,)
    assert probe.call("proxy_get_property", "mine", context=context) == (OK, b"value")
    assert probe.call("proxy_set_property", "mine", "value") == (NOT_FOUND,), "a root context has no stream"


def test_send_local_response(paused):
    probe, stream, context = paused
    headers = [("x-b", "1"), ("X-B", "2")]
    assert probe.call("proxy_send_local_response", 403, "why not", "no", headers, -1, context=context) == (OK,)
    assert stream.directions[1].headers.pairs == [
        (b":status", b"403"),
        (b"x-b", b"1"),
        (b"x-b", b"2"),
        (b"content-length", b"2"),
        (b"content-type", b"text/plain"),
    ]
    assert stream.info.details == "why_not"


def test_continue_stream(paused):
    probe, stream, context = paused
    assert stream.request_paused
    assert probe.call("proxy_continue_stream", StreamType.REQUEST, context=context) == (OK,)
    assert not stream.request_paused
    assert probe.call("proxy_continue_stream", StreamType.UPSTREAM, context=context) == (Status.UNIMPLEMENTED,)
    assert probe.call("proxy_continue_stream", 4, context=context) == (BAD,)


def test_close_stream(paused):
    probe, stream, context = paused
    assert probe.call("proxy_close_stream", 4, context=context) == (BAD,)
    assert probe.call("proxy_close_stream", StreamType.REQUEST, context=context) == (OK,)
    assert stream.reset_reason == "wasm_close_stream"


@pytest.mark.parametrize("function", ["proxy_continue_request", "proxy_clear_route_cache"])
def test_streams_of_the_oldest_abi(host, function):
    probe = Probe(version=abi.V0_1_0, host=host, callbacks=PAUSE)
    stream = probe.stream()
    stream.request_headers(REQUEST)
    assert probe.call(function, context=stream.contexts[0]) == (OK,)
    assert stream.request_paused is (function != "proxy_continue_request")
    assert stream.route_cleared is (function == "proxy_clear_route_cache")


def test_continue_response_of_the_oldest_abi(host):
    probe = Probe(version=abi.V0_1_0, host=host, callbacks={"proxy_on_response_headers": "(i32.const 1)"})
    stream = probe.stream()
    stream.request_headers(REQUEST, end_of_stream=True)
    stream.response_headers({":status": "200"}, end_of_stream=True)
    assert stream.response_paused
    assert probe.call("proxy_continue_response", context=stream.contexts[0]) == (OK,)
    assert stream.downstream.complete


def test_inject_encoded_data_to_filter_chain(paused):
    probe, stream, context = paused
    probe.call("proxy_continue_stream", StreamType.REQUEST, context=context)
    stream.request_body(b"", end_of_stream=True)
    stream.response_headers({":status": "200"})
    assert probe.call("proxy_inject_encoded_data_to_filter_chain", "one", 0, context=context) == (OK,)
    assert probe.call("proxy_inject_encoded_data_to_filter_chain", "two", 1, context=context) == (OK,)
    assert (bytes(stream.downstream.body), stream.downstream.complete) == (b"onetwo", True)


def test_upstream_hosts(paused):
    probe, stream, context = paused
    assert probe.call("proxy_get_upstream_hosts", context=context) == (OK, b"")
    stream.info.upstream_hosts = [(b"10.0.0.1:80", b"{}")]
    assert probe.call("proxy_get_upstream_hosts", context=context) == (OK, stream.info.upstream_hosts)
    assert probe.call("proxy_set_upstream_override_host", "10.0.0.1:80", context=context) == (OK,)
    assert stream.info.override_host == "10.0.0.1:80"
