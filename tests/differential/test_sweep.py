"""Every look at the stream's state, from every phase, answers the same in both hosts."""

from __future__ import annotations

import pytest

from .conftest import Differ
from .model import Case, request, response
from .programs import PROPERTY_PATHS, Call, encode

PHASES = "qbtrdulok"
MAPS = "012367459"
BUFFERS = ("0", "1", "4", "6", "7", "8", "9")
READS = ("get", "pairs", "buffer", "property")
ASK = (("q", "return", "1"), ("q", "call", "callout", "1000", "", ":method", "GET", ":path", "/", ":authority", "ask"))


def looks(phase: str) -> list[Call]:
    """Each map by each function, each buffer, each property."""
    calls: list[Call] = []
    for kind in MAPS:
        calls += [(phase, function, kind) for function in ("size", "pairs")]
        calls += [(phase, "get", kind, name) for name in ("x-a", "X-A", "nothing", "")]
        calls += [(phase, "add", kind, "x-new", "1"), (phase, "replace", kind, "X-New", "2")]
        calls += [(phase, "remove", kind, name) for name in ("x-new", "nothing")]
    for kind in BUFFERS:
        for start, length in (("0", "100"), ("1", "1"), ("0", "0"), ("3", "5"), ("99", "1"), ("4294967295", "2")):
            calls.append((phase, "buffer", kind, start, length))
    calls += [(phase, "property", path.replace(".", "\0")) for path in PROPERTY_PATHS]
    calls += [(phase, "property", path) for path in ("", "request\0path\0", "\0request", "request\0\0path")]
    return calls


@pytest.mark.parametrize("phase", PHASES + "c")
def test_every_look_from_every_phase(phase: str, differ: Differ) -> None:
    before, after = (), ()
    if phase == "k":
        before, after = (("q", "return", "1"),), (("k", "continue_stream", "0"),)
    elif phase == "c":
        before, after = ASK, (("c", "continue_stream", "0"),)
    look(differ, looks(phase), before, after)


# Closing the stream in the response's trailers ends Envoy itself.
EARLY = [(phase, ending) for phase in "qbtrdu" for ending in ("close_stream", "reply") if phase + ending[0] != "uc"]


@pytest.mark.parametrize(("phase", "ending"), EARLY)
def test_every_look_from_the_log_of_a_stream_that_ended_early(phase: str, ending: str, differ: Differ) -> None:
    stream = "0" if phase in "qbt" else "1"
    call = (phase, "close_stream", stream) if ending == "close_stream" else (phase, "reply", "403", "", "no", "-1")
    # Adding trailers to a local reply that is over ends Envoy itself.
    look(differ, [each for each in looks("l") if ending == "close_stream" or each[1] in READS], (call,), ())


def look(differ: Differ, calls: list[Call], before: tuple[Call, ...], after: tuple[Call, ...]) -> None:
    """Run the looks in pieces, since a program is a header and headers have a limit."""
    for start in range(0, len(calls), 30):
        program = encode((*before, *calls[start : start + 30], *after))
        asked = request(
            "/path/to?query=1",
            ("x-script", program),
            ("x-a", "A"),
            ("user-agent", "UA"),
            ("referer", "R"),
            method="POST",
            chunks=(b"abc", b"defg"),
            trailers=(("x-t", "T"),),
        )
        answer = response(201, ("x-a", "B"), chunks=(b"hello", b"wo"), trailers=(("x-t", "U"),))
        callout = response(202, ("x-a", "C"), chunks=(b"call",), trailers=(("x-t", "V"),))
        differ.check(Case("script", asked, answer, callout))
