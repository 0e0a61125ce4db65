"""Programs for the plugin `script`: any function of the ABI, from any phase, with sensible and senseless arguments."""

from __future__ import annotations

from hypothesis import strategies as st

Call = tuple[str, ...]

REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS = "0", "1", "2", "3"
MAPS = st.sampled_from(("0", "0", "1", "2", "2", "3", "6", "7", "4", "9"))
HEADERS = st.sampled_from(
    ("x-a", "x-b", "X-Mixed", "accept", "user-agent", "content-type", ":path", ":method", ":status", ":authority", "")
)
# What a plugin may change without making the message one that Envoy's router or its client would refuse.
CHANGEABLE = st.sampled_from(("x-a", "x-b", "X-Mixed", "accept", "user-agent", "content-type", "set-cookie"))
VALUES = st.sampled_from(("", "1", "two words", "a,b", "x" * 200))
BUFFERS = st.sampled_from(("0", "0", "1", "1", "4", "6", "7", "9"))
OFFSETS = st.sampled_from(("0", "0", "1", "2", "5", "1000", "4294967295"))
DATA = st.sampled_from(("", "new", "longer than what was there before" * 3))
_PROPERTIES = (
    "request.path request.url_path request.host request.method request.scheme request.query request.protocol "
    "request.referer request.useragent request.id request.headers.x-a request.headers.nothing request.size "
    "request.total_size response.code response.flags response.size response.headers.x-a response.trailers.x-t "
    "response.code_details response.grpc_status plugin_name plugin_root_id plugin_vm_id listener_direction nothing "
    "request request.nothing mine connection.mtls upstream.nothing metadata.nothing xds.route_name xds.cluster_name "
    "response.trailers route_name cluster_name filter_state metadata metadata.filter_metadata response source upstream "
    "xds.listener_direction xds.filter_chain_name connection xds destination"
)
PROPERTY_PATHS = tuple(_PROPERTIES.split())
# A whole map comes in the order of Envoy's hash table.
PROPERTIES = st.sampled_from(tuple(path.replace(".", "\0") for path in PROPERTY_PATHS if path != "response.trailers"))


def _calls(phase: str) -> st.SearchStrategy[Call]:
    """Calls that only look, or that change nothing but what they name."""
    one = st.tuples
    letter = st.just(phase)
    return st.one_of(
        one(letter, st.just("get"), MAPS, HEADERS),
        one(letter, st.just("size"), MAPS),
        one(letter, st.just("pairs"), MAPS),
        one(letter, st.just("add"), MAPS, CHANGEABLE, VALUES),
        one(letter, st.just("replace"), MAPS, CHANGEABLE, VALUES),
        one(letter, st.just("remove"), MAPS, CHANGEABLE),
        one(letter, st.just("buffer"), BUFFERS, OFFSETS, OFFSETS),
        one(letter, st.just("set_buffer"), BUFFERS, OFFSETS, OFFSETS, DATA),
        one(letter, st.just("property"), PROPERTIES),
        one(letter, st.just("set_property"), st.sampled_from(("mine", "other")), VALUES),
        one(letter, st.just("shared"), st.sampled_from(("@case", "@case-b"))),
        one(letter, st.just("set_shared"), st.sampled_from(("@case", "@case-b")), VALUES, st.sampled_from("012")),
        one(letter, st.just("queue"), st.just("@case"), VALUES),
        one(letter, st.just("resolve"), st.just("script"), st.sampled_from(("@case", "nothing"))),
        one(letter, st.just("foreign"), st.just("nothing"), VALUES),
        one(
            letter,
            st.just("metric"),
            st.sampled_from("01"),
            st.just("@case"),
            st.sampled_from(("1", "0", "7")),
            st.sampled_from(("", "3")),
        ),
    )


def _replies(phase: str) -> st.SearchStrategy[Call]:
    return st.tuples(
        st.just(phase),
        st.just("reply"),
        st.sampled_from(("200", "204", "403", "418", "503")),
        st.sampled_from(("", "why", "two words")),
        st.sampled_from(("", "local body")),
        st.sampled_from(("-1", "0", "7", "16")),
        st.just("x-local"),
        VALUES,
        st.sampled_from(("content-type", "x-local", "X-Mixed")),
        st.sampled_from(("text/html", "1")),
    )


def _waits(phase: str, stream: str) -> st.SearchStrategy[tuple[Call, ...]]:
    """Stops at the phase; the next tick looks around and goes on."""
    stop = (phase, "return", "1")
    return _calls("k").map(lambda call: (stop, call, ("k", "continue_stream", stream)))


def _asks(phase: str, stream: str) -> st.SearchStrategy[tuple[Call, ...]]:
    """Stops at the phase; goes on when a call-out is answered."""
    where = st.sampled_from(("callout", "callout", "refused"))
    return st.tuples(where, DATA, _calls("c")).map(
        lambda parts: (
            (phase, "return", "1"),
            (phase, "call", parts[0], "1000", parts[1], ":method", "POST", ":path", "/ask", ":authority", "ask.test"),
            ("c", "pairs", "6"),
            ("c", "buffer", "4", "0", "100000"),
            ("c", "pairs", "7"),
            parts[2],
            ("c", "continue_stream", stream),
        )
    )


def _buffering(phase: str, stream: str) -> st.SearchStrategy[tuple[Call, ...]]:
    """Waits for the whole body, then changes it."""
    changes = st.sampled_from((("0", "0"), ("0", "100000"), ("100000", "0"), ("1", "2")))
    return st.tuples(changes, DATA).map(
        lambda parts: (
            (phase, "pause_unless_end"),
            (phase.upper(), "set_buffer", "0" if stream == "0" else "1", *parts[0], parts[1]),
        )
    )


def _courses() -> st.SearchStrategy[tuple[Call, ...]]:
    """What changes the stream's course: one thing that waits at most, since going on in the wrong direction, closing
    a stream twice, or closing and answering it, ends Envoy itself."""
    nothing: st.SearchStrategy[tuple[Call, ...]] = st.just(())
    replies = st.sampled_from("qbtrdu").flatmap(_replies).map(lambda call: (call,))
    waits = st.sampled_from((("q", "0"), ("b", "0"), ("t", "0"), ("r", "1"), ("d", "1"), ("u", "1"))).flatmap(
        lambda where: _waits(*where)
    )
    asks = st.sampled_from((("q", "0"), ("B", "0"), ("t", "0"), ("r", "1"), ("D", "1"), ("u", "1"))).flatmap(
        lambda where: _asks(*where)
    )
    buffering = st.sampled_from((("b", "0"), ("d", "1"))).flatmap(lambda where: _buffering(*where))
    closes = st.sampled_from((("q", "close_stream", "0"), ("r", "close_stream", "1"))).map(lambda call: (call,))
    several = st.tuples(nothing | waits | asks, nothing | buffering, nothing | nothing | replies)
    return st.integers(0, 9).flatmap(
        lambda choice: closes if choice == 0 else several.map(lambda parts: sum(parts, ()))
    )


def programs() -> st.SearchStrategy[str]:
    """A few looks and changes in every phase, and now and then what changes the stream's course."""
    looks = st.lists(st.sampled_from("qbtrdulo").flatmap(_calls), max_size=6).map(tuple)
    return st.tuples(looks, _courses(), looks).map(lambda parts: encode(parts[0] + parts[1] + parts[2]))


def encode(calls: tuple[Call, ...]) -> str:
    """The program as the header `x-script` carries it."""
    return ";".join(",".join(_escape(word) for word in call) for call in calls)


def _escape(word: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.:/@" else f"%{ord(c):02x}" for c in word)
