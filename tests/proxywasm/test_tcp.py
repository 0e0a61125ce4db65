"""TCP connections."""

from __future__ import annotations

import pytest

from labkit.proxywasm import Action, StreamClosed
from labkit.proxywasm.enums import BufferType, StreamType

from .probe import Probe

LOG = "(drop (call $proxy_log (i32.const {}) (i32.const 0) (i32.const 0)))"
WAIT_FOR_FIVE = "(i32.lt_u (local.get 1) (i32.const 5))"


def load(host, **callbacks: str) -> Probe:
    return Probe(host=host, callbacks={f"proxy_on_{name}": body for name, body in callbacks.items()})


def test_a_connection_from_its_beginning_to_its_end(host):
    results = {
        "proxy_on_new_connection": "(i32.const 0)",
        "proxy_on_downstream_data": "(i32.const 0)",
        "proxy_on_upstream_data": "(i32.const 0)",
        "proxy_on_upstream_connection_close": "",
        "proxy_on_downstream_connection_close": "",
        "proxy_on_done": "(i32.const 1)",
        "proxy_on_log": "",
        "proxy_on_delete": "",
    }
    callbacks = {name: LOG.format(n % 6) + result for n, (name, result) in enumerate(results.items())}
    connection = Probe(host=host, callbacks=callbacks).plugin.tcp()
    assert connection.downstream(b"ping") is Action.CONTINUE
    assert connection.upstream(b"pong", end_of_stream=True) is Action.CONTINUE
    connection.close()
    assert (bytes(connection.to_upstream), bytes(connection.to_downstream)) == (b"ping", b"pong")
    assert [line.level for line in connection.logs] == [i % 6 for i in range(8)]
    with pytest.raises(StreamClosed):
        connection.downstream(b"late")


@pytest.mark.parametrize("side", ["downstream", "upstream"])
def test_data_that_is_kept_back_comes_again(host, side):
    with load(host, **{f"{side}_data": WAIT_FOR_FIVE}).plugin.tcp() as connection:
        send = getattr(connection, side)
        passed = connection.to_upstream if side == "downstream" else connection.to_downstream
        assert send(b"abc") is Action.PAUSE
        assert passed == b""
        assert send(b"def") is Action.CONTINUE
        assert passed == b"abcdef"


def test_reading_changing_and_continuing(host):
    probe = load(host, downstream_data="(i32.const 1)")
    connection = probe.plugin.tcp()
    connection.downstream(b"hello")
    context = connection.contexts[0]
    kind = BufferType.NETWORK_DOWNSTREAM_DATA
    assert probe.call("proxy_get_buffer_bytes", kind, 0, 99, context=context) == (0, b"hello")
    assert probe.call("proxy_set_buffer_bytes", kind, 0, 1, "J", context=context) == (0,)
    assert probe.call("proxy_continue_stream", StreamType.DOWNSTREAM, context=context) == (0,)
    assert bytes(connection.to_upstream) == b"Jello"
    assert probe.call("proxy_close_stream", StreamType.DOWNSTREAM, context=context) == (0,)
    assert connection.closed


def test_a_trap_closes_the_connection(host):
    connection = load(host, downstream_data="(unreachable)").plugin.tcp()
    connection.downstream(b"x")
    assert connection.closed
    assert "unreachable" in connection.problems[0].message
