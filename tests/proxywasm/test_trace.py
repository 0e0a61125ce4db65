"""Traces and the debugger."""

from __future__ import annotations

import json

import pytest

from labkit.proxywasm import Status, abi

from .probe import Probe

GET = {":method": "GET", ":path": "/", ":authority": "a"}
ASK = (
    "(drop (call $proxy_get_header_map_value (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))"
    "(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4)))) (i32.const 0)"
)


@pytest.fixture
def asking(host):
    """A plugin that logs the request's path."""
    probe = Probe(host=host, version=abi.V0_2_1, callbacks={"proxy_on_request_headers": ASK})
    probe.vm.memory.write(16, b":path")
    return probe


def test_a_trace_has_every_call_decoded(asking):
    with asking.plugin.trace() as trace:
        asking.plugin.request(url="http://a/p")
    calls = {call.function: call for call in trace}
    assert calls["proxy_on_request_headers"].args == {"context": 2, "count": 5, "end_of_stream": True}
    assert calls["proxy_on_request_headers"].result == "CONTINUE"
    header = calls["proxy_get_header_map_value"]
    assert (header.args, header.result) == ({"map": "REQUEST_HEADERS", "key": ":path"}, "OK")
    assert header.answers == {"value": "/p"}
    assert header.depth == 1
    assert calls["proxy_log"].args == {"level": "INFO", "message": "/p"}
    assert all(call.microseconds > 0 for call in trace)
    assert "proxy_get_header_map_value(map='REQUEST_HEADERS'" in str(trace)


def test_nothing_is_recorded_outside(asking):
    with asking.plugin.trace() as trace:
        pass
    asking.plugin.request()
    assert len(trace) == 0


def test_rows_chrome_and_html(asking, tmp_path):
    with asking.plugin.trace() as trace:
        asking.plugin.request()
    rows = trace.rows()
    assert [row["function"] for row in rows][:2] == ["proxy_on_context_create", "proxy_on_request_headers"]
    trace.save_chrome(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(events) == len(rows)
    inner, outer = events[2], events[1]
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    assert "get_header_map_value" in trace._repr_html_()


def test_a_trap_is_in_the_trace(host):
    probe = Probe(host=host, callbacks={"proxy_on_request_headers": "(unreachable)"})
    with probe.plugin.trace() as trace:
        result = probe.plugin.request()
    assert "unreachable" in trace.calls[-1].error
    assert result.status == 503
    assert "unreachable" in result._repr_html_()


def test_bad_pointers_are_shown_as_such(host):
    bad = "(drop (call $proxy_log (i32.const 9) (i32.const -8) (i32.const 99))) (i32.const 0)"
    probe = Probe(host=host, callbacks={"proxy_on_request_headers": bad})
    with probe.plugin.trace() as trace:
        probe.plugin.request()
    call = next(call for call in trace if call.function == "proxy_log")
    assert call.args["level"] == 9
    assert "outside the memory" in call.args["message"]
    assert call.result == "BAD_ARGUMENT"


def test_every_function_of_the_table_can_be_decoded(host):
    probe = Probe(host=host)
    with probe.plugin.trace() as trace:
        for function in probe.vm.module.imports:
            probe.raw(function.name, *[64 for _ in function.wasm_params])
    assert {call.function for call in trace} == {function.name for function in probe.vm.module.imports}
    json.dumps(trace.chrome())


def test_step_stops_before_and_after_each_call(asking):
    seen = []
    with asking.plugin.step(lambda: asking.plugin.request(url="http://a/p")) as steps:
        for stop in steps:
            seen.append((stop.name.removeprefix("proxy_"), stop.entering))
            if stop.name == "proxy_get_header_map_value" and not stop.entering:
                assert stop.answers == {"value": "/p"}
                assert "← proxy_get_header_map_value(map='REQUEST_HEADERS'" in repr(stop)
    assert steps.value.status == 200
    assert seen[2:6] == [
        ("on_request_headers", True),
        ("get_header_map_value", True),
        ("get_header_map_value", False),
        ("log", True),
    ]


def test_step_can_change_arguments_memory_and_results(asking):
    with asking.plugin.step(lambda: asking.plugin.request(url="http://a/p")) as steps:
        for stop in steps:
            if stop.name == "proxy_get_header_map_value" and stop.entering:
                stop.memory.write(64, b":method")
                stop.args[1:3] = [64, 7]
            elif stop.name == "proxy_on_request_headers" and not stop.entering:
                stop.result = 0
    assert [line.message for line in steps.value.logs] == ["GET"]


def test_step_can_answer_instead_of_the_host(asking):
    with asking.plugin.step(lambda: asking.plugin.request()) as steps:
        for stop in steps:
            if stop.name == "proxy_log" and stop.entering:
                stop.answer(Status.INTERNAL_FAILURE)
            elif stop.name == "proxy_log":
                assert stop.result == Status.INTERNAL_FAILURE
                with pytest.raises(ValueError, match="has run"):
                    stop.answer(0)
    assert steps.value.logs == []


def test_leaving_the_loop_lets_the_plugin_finish(asking):
    with asking.plugin.step(lambda: asking.plugin.request()) as steps:
        for stop in steps:
            if stop.name == "proxy_get_header_map_value":
                break
    assert steps.value.status == 200
    assert asking.plugin.request().status == 200


def test_an_exception_of_the_run_reaches_the_loop(asking):
    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError), asking.plugin.step(fail) as steps:
        list(steps)
