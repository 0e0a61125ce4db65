"""What matters most, case by case: stopping and going on, local replies, call-outs, timers, traps, rules."""

from __future__ import annotations

import pytest

from .conftest import Differ
from .model import Case, Message, request, response
from .plugins import TRAPS
from .programs import Call, encode

REPLY = ("reply", "418", "why", "teapot", "-1", "x-local", "1")
BODY = (b"hello ", b"wide ", b"world")


def run(
    differ: Differ,
    *calls: Call,
    plugin: str = "script",
    method: str = "POST",
    chunks: tuple[bytes, ...] = (b"abc", b"defg"),
    trailers: tuple[tuple[str, str], ...] = (("x-t", "T"),),
    upstream: Message | None = None,
    callout: Message | None = None,
) -> None:
    asked = request("/path?query", ("x-script", encode(calls)), method=method, chunks=chunks, trailers=trailers)
    answer = upstream or response(200, ("x-a", "B"), chunks=BODY, trailers=(("x-t", "U"),))
    differ.check(Case(plugin, asked, answer, callout))


@pytest.mark.parametrize("trailers", [(), (("x-t", "T"),)], ids=["bare", "trailers"])
@pytest.mark.parametrize("phase", "qbBtrdDuk")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_local_reply_from_each_phase(
    phase: str, trailers: tuple[tuple[str, str], ...], method: str, differ: Differ
) -> None:
    before: tuple[Call, ...] = (("q", "return", "1"),) if phase == "k" else ()
    upstream = response(200, chunks=() if method == "HEAD" else BODY, trailers=() if method == "HEAD" else trailers)
    run(differ, *before, (phase, *REPLY), method=method, trailers=trailers, upstream=upstream)


@pytest.mark.parametrize("status", ["200", "204", "304", "404", "500", "599", "0", "99"])
def test_local_reply_with_odd_status(status: str, differ: Differ) -> None:
    run(differ, ("q", "reply", status, "", "body", "-1"))


@pytest.mark.parametrize("grpc", ["-1", "0", "7", "16", "17"])
@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "text/plain"])
def test_local_reply_to_grpc(grpc: str, kind: str, differ: Differ) -> None:
    program = encode((("q", "reply", "403", "why", "not you", grpc, "x-local", "1"),))
    differ.check(Case("script", request("/a.B/C", ("content-type", kind), ("x-script", program), method="POST")))


@pytest.mark.parametrize(("phase", "stream"), [("q", "0"), ("b", "0"), ("t", "0"), ("r", "1"), ("d", "1"), ("u", "1")])
@pytest.mark.parametrize("action", ["1", "2", "3", "4", "5"])
def test_stop_and_go_on(phase: str, stream: str, action: str, differ: Differ) -> None:
    """Numbers beyond Continue and Pause mean something to some hosts; plugins' answers are not checked by SDKs."""
    run(differ, (phase, "return", action), ("k", "continue_stream", stream))


@pytest.mark.parametrize(("phase", "buffer"), [("b", "0"), ("d", "1")])
@pytest.mark.parametrize("trailers", [(), (("x-t", "T"),)], ids=["bare", "trailers"])
@pytest.mark.parametrize(
    ("start", "length"), [("0", "0"), ("0", "99999"), ("99999", "0"), ("2", "3"), ("0", "2"), ("5", "99999")]
)
def test_insert_replace_append(
    phase: str, buffer: str, trailers: tuple[tuple[str, str], ...], start: str, length: str, differ: Differ
) -> None:
    upstream = response(200, chunks=BODY, trailers=trailers)
    change = ("set_buffer", buffer, start, length, "NEW")
    run(differ, (phase, *change), trailers=trailers, upstream=upstream)
    whole = ((phase, "pause_unless_end"), (phase.upper(), *change), (phase.upper(), "buffer", buffer, "0", "999"))
    run(differ, *whole, trailers=trailers, upstream=upstream)


@pytest.mark.parametrize("phase", ["t", "u"])
def test_buffered_body_is_changed_when_trailers_come(phase: str, differ: Differ) -> None:
    buffer = "0" if phase == "t" else "1"
    body = "b" if phase == "t" else "d"
    run(
        differ,
        (body, "return", "1"),
        (phase, "buffer", buffer, "0", "99"),
        (phase, "set_buffer", buffer, "0", "99", "new"),
    )


@pytest.mark.parametrize("cluster", ["callout", "refused", "unknown"])
@pytest.mark.parametrize(("phase", "stream"), [("q", "0"), ("B", "0"), ("t", "0"), ("r", "1"), ("D", "1"), ("u", "1")])
@pytest.mark.parametrize(
    "answer", [response(200, ("x-a", "1"), chunks=(b"ok",), trailers=(("x-t", "1"),)), response(503)]
)
def test_call_out_from_each_phase(phase: str, stream: str, cluster: str, answer: Message, differ: Differ) -> None:
    run(
        differ,
        (phase, "call", cluster, "1000", "asked", ":method", "POST", ":path", "/ask", ":authority", "ask.test"),
        (phase, "return", "1"),
        ("c", "pairs", "6"),
        ("c", "pairs", "7"),
        ("c", "buffer", "4", "0", "999"),
        ("c", "continue_stream", stream),
        ("k", "continue_stream", stream),
        trailers=(("x-t", "T"),) if phase in "tu" else (),
        upstream=response(200, chunks=BODY, trailers=(("x-t", "T"),) if phase == "u" else ()),
        callout=answer,
    )


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (":method", "GET"),
        (":method", "GET", ":path", "/"),
        (":path", "/", ":authority", "a"),
        (":method", "GET", ":path", "/", ":authority", "a", "X-Upper", "b", "x-upper", "c"),
    ],
)
def test_call_out_with_odd_headers(headers: tuple[str, ...], differ: Differ) -> None:
    run(
        differ,
        ("q", "call", "callout", "1000", "", *headers),
        ("q", "return", "1"),
        ("c", "continue_stream", "0"),
        ("k", "continue_stream", "0"),
        callout=response(),
    )


def test_call_out_that_is_never_answered(differ: Differ) -> None:
    run(
        differ,
        ("q", "call", "callout", "50", "", ":method", "GET", ":path", "/", ":authority", "a"),
        ("q", "return", "1"),
        ("c", "pairs", "6"),
        ("c", "buffer", "4", "0", "99"),
        ("c", "continue_stream", "0"),
    )


def test_call_out_answered_by_a_local_reply(differ: Differ) -> None:
    run(
        differ,
        ("q", "call", "callout", "1000", "", ":method", "GET", ":path", "/", ":authority", "a"),
        ("q", "return", "1"),
        ("c", *REPLY),
        callout=response(401),
    )


@pytest.mark.parametrize("call", [("q", "close_stream", "0"), ("q", "close_stream", "1"), ("r", "close_stream", "1")])
def test_closed_stream(call: Call, differ: Differ) -> None:
    run(differ, call)


@pytest.mark.parametrize("stream", ["2", "3", "9"])
@pytest.mark.parametrize("phase", "qr")
def test_odd_stream_types(stream: str, phase: str, differ: Differ) -> None:
    run(differ, (phase, "continue_stream", stream), (phase, "close_stream", stream))


@pytest.mark.parametrize(("phase", "stream"), [("q", "0"), ("b", "0"), ("r", "1"), ("d", "1")])
def test_going_on_without_having_stopped(phase: str, stream: str, differ: Differ) -> None:
    run(differ, (phase, "continue_stream", stream))


@pytest.mark.parametrize(
    "change",
    [
        ("remove", ":path"),
        ("remove", ":method"),
        ("remove", ":authority"),
        ("replace", ":path", "/other?x=1"),
        ("replace", ":path", ""),
        ("replace", ":method", "PURGE"),
        ("replace", ":authority", "other.test:81"),
        ("replace", "host", "other.test"),
        ("add", ":path", "/second"),
        ("add", ":authority", "second.test"),
        ("add", "cookie", "a=1"),
        ("add", "user-agent", "twice"),
        ("replace", "x-a", ""),
        ("add", "", "nameless"),
        ("replace", "X-UPPER", "1"),
        ("remove", "X-A"),
    ],
)
def test_request_header_changes(change: tuple[str, ...], differ: Differ) -> None:
    program = encode((("q", change[0], "0", *change[1:]), ("q", "pairs", "0")))
    asked = request(
        "/path", ("x-script", program), ("x-a", "1"), ("x-a", "2"), ("user-agent", "one"), ("cookie", "b=2")
    )
    differ.check(Case("script", asked))


@pytest.mark.parametrize(
    "change",
    [
        ("remove", ":status"),
        ("replace", ":status", "404"),
        ("replace", ":status", "abc"),
        ("replace", ":status", ""),
        ("add", ":status", "500"),
        ("add", "set-cookie", "c=3"),
        ("remove", "set-cookie"),
        ("replace", "set-cookie", "only=1"),
        ("add", "content-type", "text/second"),
        ("add", "vary", "accept"),
        ("replace", "server", "lab"),
    ],
)
def test_response_header_changes(change: tuple[str, ...], differ: Differ) -> None:
    program = encode((("r", change[0], "2", *change[1:]), ("r", "pairs", "2")))
    answer = response(200, ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-type", "text/plain"), chunks=BODY)
    differ.check(Case("script", request("/path", ("x-script", program)), answer))


@pytest.mark.parametrize("kind", "0123")
@pytest.mark.parametrize("phase", "qtru")
def test_set_pairs(phase: str, kind: str, differ: Differ) -> None:
    keep = (":method", "PUT", ":path", "/set", ":authority", "set.test", ":scheme", "http", "x-case", "@case")
    keep = (*keep, "x-forwarded-proto", "http")
    pairs = {"0": keep, "2": (":status", "202")}.get(kind, ())
    run(
        differ,
        (phase, "set_pairs", kind, *pairs, "x-b", "1", "X-C", "2", "x-b", "3"),
        (phase, "pairs", kind),
        (phase, "size", kind),
    )


@pytest.mark.parametrize("name", ["shared", "set_shared"])
def test_shared_data_with_compare_and_swap(name: str, differ: Differ) -> None:
    first: Call = ("q", "set_shared", "@case", "one", "0") if name == "shared" else ("q", "shared", "@case")
    run(
        differ,
        first,
        ("q", "shared", "@case"),
        ("q", "set_shared", "@case", "two", "1"),
        ("r", "set_shared", "@case", "three", "2"),
        ("r", "shared", "@case"),
        ("r", "set_shared", "@case", "", "0"),
        ("u", "shared", "@case"),
    )


@pytest.mark.parametrize("kind", ["0", "1", "2", "3"])
def test_metrics(kind: str, differ: Differ) -> None:
    run(
        differ,
        ("q", "metric", kind, "@case", "5", ""),
        ("q", "metric", kind, "@case", "-2", ""),
        ("q", "metric", kind, "@case", "1", "9"),
    )


@pytest.mark.parametrize("phase", TRAPS)
@pytest.mark.parametrize("policy", ["closed", "open"])
def test_trap_in_each_phase_and_the_request_after(phase: str, policy: str, differ: Differ) -> None:
    run(differ, (phase, "trap"), plugin=f"trap-{policy}-{phase}")
    run(differ, plugin=f"trap-{policy}-{phase}")


def test_reload_makes_a_new_vm_at_most_once_a_back_off(differ: Differ) -> None:
    run(differ, ("q", "trap"), plugin="trap-reload")
    run(differ, plugin="trap-reload")
    run(differ, ("r", "trap"), plugin="trap-reload")
    run(differ, plugin="trap-reload")


RULES = (
    "lab.test",
    "a.example.com",
    "example.com",
    "b.a.example.com:80",
    "reply.test",
    "reply.test:8080",
    "REPLY.test",
)


@pytest.mark.parametrize("authority", RULES)
def test_rules_of_the_wrapper_choose_the_configuration(authority: str, differ: Differ) -> None:
    asked = request("/", authority=authority, method="POST", chunks=(b"body",))
    differ.check(Case("wrapped", asked, response(200, chunks=(b"answer",))))


@pytest.mark.parametrize("call", ["/some?x=1", "http://other.test/p", "not a url"])
def test_call_out_of_the_wrapper(call: str, differ: Differ) -> None:
    answer = response(200, ("x-answer", "1"), chunks=(b"called",))
    differ.check(Case("wrapped", request("/", ("x-call", call)), response(), answer))


@pytest.mark.parametrize(
    ("phase", "kind"), [("b", "1"), ("B", "1"), ("d", "3"), ("D", "3"), ("r", "1"), ("d", "1"), ("l", "3")]
)
@pytest.mark.parametrize("trailers", [(), (("x-t", "T"),)], ids=["bare", "trailers"])
def test_trailers_made_by_the_plugin(
    phase: str, kind: str, trailers: tuple[tuple[str, str], ...], differ: Differ
) -> None:
    upstream = response(200, chunks=BODY, trailers=trailers)
    run(differ, (phase, "add", kind, "x-made", "1"), (phase, "size", kind), trailers=trailers, upstream=upstream)


@pytest.mark.parametrize(("phase", "stream", "kind"), [("B", "0", "1"), ("D", "1", "3")])
def test_trailers_made_while_the_whole_body_is_held_back(phase: str, stream: str, kind: str, differ: Differ) -> None:
    run(
        differ,
        (phase.lower(), "return", "1"),
        ("k", "add", kind, "x-made", "1"),
        ("k", "set_buffer", stream, "0", "99", "new"),
        ("k", "continue_stream", stream),
        trailers=(),
        upstream=response(200, chunks=BODY),
    )


def test_a_body_that_was_held_back_can_be_written_to_in_vain(differ: Differ) -> None:
    run(
        differ,
        ("b", "return", "1"),
        ("k", "continue_stream", "0"),
        ("r", "set_buffer", "0", "0", "9", "late"),
        trailers=(),
    )


@pytest.mark.parametrize("phase", "bdlo")
@pytest.mark.parametrize(("hold", "stream"), [("q", "0"), ("r", "1")])
def test_headers_that_were_held_back_can_be_changed_in_vain(hold: str, stream: str, phase: str, differ: Differ) -> None:
    kind = "0" if hold == "q" else "2"
    calls = ((hold, "return", "1"), ("k", "continue_stream", stream), (phase, "add", kind, "x-late", "1"))
    run(differ, *calls, (phase, "get", kind, "x-late"), trailers=())


@pytest.mark.parametrize(("phase", "stream", "kind"), [("B", "0", "1"), ("D", "1", "3")])
def test_trailers_made_with_the_last_chunk_that_is_held_back(
    phase: str, stream: str, kind: str, differ: Differ
) -> None:
    calls = ((phase, "add", kind, "x-made", "1"), (phase, "return", "1"), ("k", "continue_stream", stream))
    run(differ, *calls, trailers=(), upstream=response(200, chunks=BODY))
