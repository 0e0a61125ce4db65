"""What hypothesis sends through both hosts: odd but legal messages, and programs for the plugin `script`."""

from __future__ import annotations

import random
import string
from typing import Any

from hypothesis import strategies as st

from .model import Case, Message, request, response
from .wire import LARGEST_CHUNK

Pairs = tuple[tuple[str, str], ...]

NAME = string.ascii_lowercase + string.digits + "!$&'*+-.^_`|~"
# Names that mean something to Envoy's connection manager or to HTTP/2, which would answer or change the message before
# a plugin sees it, and those that the harness itself needs.
_TAKEN = (
    "connection content-length cookie date expect host keep-alive proxy-connection referer te transfer-encoding "
    "trailer upgrade via server x-case x-script"
)
TAKEN = frozenset(_TAKEN.split())
COMMON = ("accept", "accept-language", "authorization", "content-type", "user-agent", "x-a", "x-b")
REPLY_COMMON = ("cache-control", "content-type", "set-cookie", "vary", "x-a", "x-b")


def names(common: tuple[str, ...]) -> st.SearchStrategy[str]:
    odd = st.text(NAME, min_size=1, max_size=12).filter(
        lambda name: name not in TAKEN and not name.startswith(("x-envoy", "x-forwarded"))
    )
    return st.sampled_from(common) | odd.map(lambda name: f"x-{name}")


def values() -> st.SearchStrategy[str]:
    visible = "".join(chr(code) for code in range(33, 127))
    odd = st.text(visible + " \t" + "\x80\xe9\xff", max_size=40).map(str.strip)
    return st.sampled_from(("", "1", "a, b", "text/plain; q=0.5", "a" * 300)) | odd.filter(
        lambda value: value == value.strip()
    )


def headers(common: tuple[str, ...] = COMMON) -> st.SearchStrategy[Pairs]:
    """Headers with repeats and empty values."""
    return st.lists(st.tuples(names(common), values()), max_size=8).map(tuple)


def trailers() -> st.SearchStrategy[Pairs]:
    return st.just(()) | st.lists(
        st.tuples(st.sampled_from(("x-t", "grpc-status", "x-sum")), values()), max_size=3
    ).map(tuple)


@st.composite
def chunks(draw: st.DrawFn, largest: int = 100_000) -> tuple[bytes, ...]:
    """A body of up to `largest` bytes in pieces; its bytes come from a seed, so that examples stay small."""
    sizes = draw(st.lists(st.sampled_from((1, 2, 17, 1000, LARGEST_CHUNK)) | st.integers(1, 3000), max_size=9))
    source = random.Random(draw(st.integers(0, 1000)))
    pieces: list[bytes] = []
    for size in sizes:
        if sum(map(len, pieces)) + size <= largest:
            pieces.append(source.randbytes(size) if size > 20 else bytes(source.choices(b"abcXYZ \x00\xff", k=size)))
    return tuple(pieces)


def paths() -> st.SearchStrategy[str]:
    segment = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%", max_size=12)
    query = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%/?", max_size=30)
    return st.tuples(st.lists(segment, max_size=4), st.none() | query).map(
        lambda parts: "/" + "/".join(parts[0]) + ("" if parts[1] is None else f"?{parts[1]}")
    )


METHODS = st.sampled_from(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PURGE"))
AUTHORITIES = st.sampled_from(("lab.test", "lab.test:8080", "a.example.com", "[::1]:80", "127.0.0.1"))


@st.composite
def requests(
    draw: st.DrawFn, *, extra: st.SearchStrategy[Pairs] | None = None, largest: int = 100_000, **fixed: Any
) -> Message:
    """A request; `extra` are headers that the plugin looks at, `fixed` what `model.request` is given instead."""
    fields = {
        "method": draw(METHODS),
        "authority": draw(AUTHORITIES),
        "chunks": draw(chunks(largest)),
        "trailers": draw(trailers()),
    } | fixed
    return request(draw(paths()), *draw(headers()), *(draw(extra) if extra is not None else ()), **fields)


@st.composite
def responses(draw: st.DrawFn, *, largest: int = 100_000, extra: st.SearchStrategy[Pairs] | None = None) -> Message:
    """A response; those that must have no body have none."""
    status = draw(st.sampled_from((200, 200, 200, 201, 204, 301, 304, 404, 418, 500, 503, 599)))
    bare = status in (204, 304)
    return response(
        status,
        *draw(headers(REPLY_COMMON)),
        *(draw(extra) if extra is not None else ()),
        chunks=() if bare else draw(chunks(largest)),
        trailers=() if bare else draw(trailers()),
    )


@st.composite
def cases(
    draw: st.DrawFn,
    plugin: str,
    *,
    extra: st.SearchStrategy[Pairs] | None = None,
    reply_extra: st.SearchStrategy[Pairs] | None = None,
    largest: int = 100_000,
    silent: bool = False,
    **fixed: Any,
) -> Case:
    """A case for one plugin; `silent`: the server behind call-outs may fail to answer."""
    asked = draw(requests(extra=extra, largest=largest, **fixed))
    answer = draw(responses(largest=largest, extra=reply_extra))
    if asked.get(b":method") == b"HEAD":
        answer = Message(answer.headers)
    callout = draw(responses(largest=2000))
    return Case(plugin, asked, answer, None if silent and draw(st.integers(0, 9)) == 0 else callout)


def header(name: str, *choices: str) -> st.SearchStrategy[Pairs]:
    """Mostly one of the choices as this header, sometimes none."""
    return st.sampled_from(choices).map(lambda value: ((name, value),)) | st.just(())
