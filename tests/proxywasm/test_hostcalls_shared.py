"""Host functions for what outlives a stream: contexts, shared state, metrics, call-outs, foreign functions."""

from __future__ import annotations

import zlib

import pytest

from labkit.proxywasm import FakeClock, GrpcResponse, Host, Response, Status
from labkit.proxywasm.enums import MetricType

from .probe import Probe

OK, NOT_FOUND, BAD = Status.OK, Status.NOT_FOUND, Status.BAD_ARGUMENT
REQUEST = [(":authority", "a"), (":path", "/p"), (":method", "GET"), (":scheme", "http"), ("x-a", "1"), ("x-a", "2")]
PAUSE = {"proxy_on_request_headers": "(i32.const 1)"}


def test_set_effective_context(host):
    other = (
        "(drop (call $proxy_set_effective_context (i32.const 2)))"
        "(drop (call $proxy_get_header_map_value (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 0)"
        " (i32.const 4)))(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))"
    )
    probe = Probe(host=host, callbacks=PAUSE | {"proxy_on_tick": other})
    stream = probe.stream()
    stream.request_headers([*REQUEST, ("k", "seen")])
    assert stream.contexts[0].id == 2
    probe.vm.memory.write(16, b"k")
    probe.plugin.context.enter("proxy_on_tick")
    assert [line.message for line in stream.logs] == ["seen"], "the log goes to the effective context, too"
    assert probe.call("proxy_set_effective_context", 77) == (BAD,)


def test_done(host):
    probe = Probe(host=host, callbacks={"proxy_on_done": "(i32.const 0)"})
    assert probe.call("proxy_done") == (NOT_FOUND,), "nobody waits for it"
    probe.plugin.close()
    assert probe.plugin.context.id in probe.vm.contexts
    assert probe.call("proxy_done") == (OK,)
    assert probe.plugin.context.id not in probe.vm.contexts


def test_shared_data(probe):
    assert probe.call("proxy_get_shared_data", "k") == (NOT_FOUND,)
    assert probe.call("proxy_set_shared_data", "k", "one", 0) == (OK,)
    status, value, cas = probe.call("proxy_get_shared_data", "k")
    assert (status, value) == (OK, b"one")
    assert probe.call("proxy_set_shared_data", "k", "two", cas) == (OK,)
    assert probe.call("proxy_set_shared_data", "k", "three", cas) == (Status.CAS_MISMATCH,)
    assert probe.call("proxy_get_shared_data", "k")[1] == b"two"


def test_shared_data_is_shared_by_vm_id(host):
    writer, reader, stranger = (Probe(host=host, vm_id=vm_id, vm_config=name) for vm_id, name in
                                [("a", "1"), ("a", "2"), ("b", "3")])  # fmt: skip
    writer.call("proxy_set_shared_data", "k", "v", 0)
    assert reader.call("proxy_get_shared_data", "k")[:2] == (OK, b"v")
    assert stranger.call("proxy_get_shared_data", "k") == (NOT_FOUND,)


def test_queues_across_vms(host):
    log = "(drop (call $proxy_log (i32.const 2) (i32.const 0) (local.get 1)))"
    owner = Probe(host=host, vm_id="owner", callbacks={"proxy_on_queue_ready": log})
    sender = Probe(host=host, vm_id="sender", vm_config="other")
    assert sender.call("proxy_resolve_shared_queue", "owner", "q") == (NOT_FOUND,)
    status, token = owner.call("proxy_register_shared_queue", "q")
    assert status == OK
    assert sender.call("proxy_resolve_shared_queue", "owner", "q") == (OK, token)
    assert owner.call("proxy_resolve_shared_queue", "", "q") == (OK, token), "no id is the own one"
    assert sender.call("proxy_enqueue_shared_queue", token, "one") == (OK,)
    assert sender.call("proxy_enqueue_shared_queue", 99, "one") == (NOT_FOUND,)
    host.run_due()
    assert len(owner.plugin.logs) == 1
    assert owner.call("proxy_dequeue_shared_queue", token) == (OK, b"one")
    assert owner.call("proxy_dequeue_shared_queue", token) == (Status.EMPTY,)
    assert owner.call("proxy_dequeue_shared_queue", 99) == (NOT_FOUND,)


def test_metrics(probe):
    assert probe.call("proxy_define_metric", 3, "bad") == (BAD,)
    ids = {kind: probe.call("proxy_define_metric", kind, kind.name)[1] for kind in MetricType}
    counter, gauge, histogram = (ids[kind] for kind in MetricType)
    minus = (1 << 64) - 1
    assert probe.call("proxy_increment_metric", counter, 2) == (OK,)
    assert probe.call("proxy_increment_metric", counter, minus) == (BAD,), "a counter does not go down"
    assert probe.call("proxy_record_metric", counter, 3) == (OK,)
    assert probe.call("proxy_record_metric", gauge, 7) == (OK,)
    assert probe.call("proxy_increment_metric", gauge, minus) == (OK,)
    assert probe.call("proxy_record_metric", histogram, 5) == (OK,)
    assert probe.call("proxy_increment_metric", histogram, 1) == (BAD,)
    assert probe.call("proxy_get_metric", counter) == (OK, 5)
    assert probe.call("proxy_get_metric", gauge) == (OK, 6)
    assert probe.call("proxy_get_metric", histogram) == (BAD,)
    for function, value in [("proxy_increment_metric", 1), ("proxy_record_metric", 1)]:
        assert probe.call(function, 4000, value) == (NOT_FOUND,)
    metrics = probe.host.metrics
    assert (metrics["COUNTER"], metrics["GAUGE"], metrics["HISTOGRAM"]) == (5, 6, [5])


CALL = [(":method", "GET"), (":path", "/"), (":authority", "a")]
LOG_CALL = "(drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 0)))"


def test_http_call(host):
    host.clusters["up"] = lambda request: Response(204, {"x-from": request.cluster})
    probe = Probe(host=host, callbacks={"proxy_on_http_call_response": LOG_CALL})
    status, token = probe.call("proxy_http_call", "up", CALL, "", [], 1000)
    assert (status, token & 3) == (OK, 0)
    assert probe.plugin.logs == [], "never before the callback that asked is over"
    host.run_due()
    assert len(probe.plugin.logs) == 1


def test_http_call_to_an_unknown_cluster(probe):
    assert probe.call("proxy_http_call", "nowhere", CALL, "", [], 0) == (BAD,)
    (problem,) = probe.plugin.context.problems
    assert (type(problem).__name__, problem.function, problem.argument) == (
        "UnknownCluster",
        "proxy_http_call",
        "cluster",
    )


@pytest.mark.parametrize("missing", range(3))
def test_http_call_without_a_pseudo_header(probe, missing):
    probe.host.clusters["up"] = lambda request: Response()
    pairs = [pair for index, pair in enumerate(CALL) if index != missing]
    assert probe.call("proxy_http_call", "up", pairs, "", [], 0) == (BAD,)


def test_grpc_call(host):
    host.clusters["grpc"] = lambda request: GrpcResponse(request.message[::-1])
    probe = Probe(host=host, callbacks={"proxy_on_grpc_receive": LOG_CALL, "proxy_on_grpc_close": LOG_CALL})
    status, token = probe.call("proxy_grpc_call", "grpc", "service", "method", [("k", "v")], "abc", 0)
    assert (status, token & 3) == (OK, 1)
    host.run_due()
    assert len(probe.plugin.logs) == 1
    assert probe.call("proxy_grpc_call", "nowhere", "s", "m", [], "", 0) == (Status.PARSE_FAILURE,)
    assert probe.call("proxy_grpc_cancel", token) == (NOT_FOUND,), "it is over"
    _, token = probe.call("proxy_grpc_call", "grpc", "service", "method", [], "abc", 0)
    assert probe.call("proxy_grpc_cancel", token) == (OK,)
    host.run_due()
    assert len(probe.plugin.logs) == 1


def test_grpc_stream(host):
    streams = []

    def serve(stream):
        streams.append(stream)
        stream.on_message = lambda message, end: stream.send(message.upper())
        stream.send_initial_metadata({"k": "v"})

    host.clusters["grpc"] = serve
    names = (
        "proxy_on_grpc_receive_initial_metadata",
        "proxy_on_grpc_receive",
        "proxy_on_grpc_receive_trailing_metadata",
        "proxy_on_grpc_close",
    )
    log = "(drop (call $proxy_log (i32.const {}) (i32.const 0) (i32.const 0)))"
    callbacks = {name: log.format(level) for level, name in enumerate(names)}
    probe = Probe(host=host, callbacks=callbacks)
    status, token = probe.call("proxy_grpc_stream", "grpc", "service", "method", [])
    assert (status, token & 3) == (OK, 2)
    host.run_due()
    assert probe.call("proxy_grpc_send", token, "hello", 0) == (OK,)
    host.run_due()
    streams[0].send_trailing_metadata({"t": "1"})
    assert probe.call("proxy_grpc_close", token) == (OK,)
    streams[0].close(5, "gone")
    assert [line.level for line in probe.plugin.logs] == [0, 1, 2, 3]
    assert streams[0].received == [b"hello"]
    assert probe.call("proxy_get_status") == (OK, 5, b"")
    assert probe.call("proxy_grpc_send", token, "late", 0) == (NOT_FOUND,)
    assert probe.call("proxy_grpc_send", 4, "no stream", 0) == (BAD,)
    assert probe.call("proxy_grpc_stream", "nowhere", "s", "m", []) == (Status.PARSE_FAILURE,)


def test_get_status(probe):
    assert probe.call("proxy_get_status") == (OK, 0, b"")


def test_redis(host):
    host.clusters["redis"] = lambda request: b"+" + request.query
    log = (
        "(drop (call $proxy_get_buffer_bytes (i32.const 9) (i32.const 0) (i32.const 99) (i32.const 0) (i32.const 4)))"
        "(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))"
    )
    probe = Probe(host=host, callbacks={"proxy_on_redis_call_response": log})
    assert probe.call("proxy_redis_init", "redis?db=1", "user", "secret", 100) == (OK,)
    assert probe.call("proxy_redis_init", "nowhere", "", "", 100) == (BAD,)
    assert probe.call("proxy_redis_call", "redis?db=1", "PING")[0] == OK
    assert probe.call("proxy_redis_call", "nowhere", "PING") == (BAD,)
    host.run_due()
    assert [line.message for line in probe.plugin.logs] == ["+PING"]


def test_call_foreign_function(probe):
    assert probe.call("proxy_call_foreign_function", "unknown", "") == (NOT_FOUND,)
    probe.host.foreign_functions["double"] = lambda vm, data: data * 2
    assert probe.call("proxy_call_foreign_function", "double", "ab") == (OK, b"abab")
    status, packed = probe.call("proxy_call_foreign_function", "compress", "aaaa" * 100)
    assert (status, zlib.decompress(packed)) == (OK, b"aaaa" * 100)
    assert probe.call("proxy_call_foreign_function", "uncompress", packed) == (OK, b"aaaa" * 100)
    assert probe.call("proxy_call_foreign_function", "uncompress", "junk") == (Status.SERIALIZATION_FAILURE,)


def test_a_fake_clock_starts_where_it_is_told():
    probe = Probe(host=Host(clock=FakeClock(1000.0)))
    assert probe.call("proxy_get_current_time_nanoseconds") == (OK, 1_000_000_000_000)
