"""What both hosts are given and what is compared: cases and outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response: headers with their pseudo-headers, the body's chunks, trailers."""

    headers: Headers
    chunks: tuple[bytes, ...] = ()
    trailers: Headers = ()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def get(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


def request(
    path: str = "/",
    *headers: tuple[str, str],
    method: str = "GET",
    authority: str = "lab.test",
    chunks: tuple[bytes, ...] = (),
    trailers: tuple[tuple[str, str], ...] = (),
) -> Message:
    """A request as a client sends it. `x-forwarded-proto` is there because Envoy adds it when it is not."""
    pseudo = ((":method", method), (":path", path), (":scheme", "http"), (":authority", authority))
    return Message(_bytes((*pseudo, ("x-forwarded-proto", "http"), *headers)), chunks, _bytes(trailers))


def response(
    status: int = 200,
    *headers: tuple[str, str],
    chunks: tuple[bytes, ...] = (),
    trailers: tuple[tuple[str, str], ...] = (),
) -> Message:
    """A response as an upstream sends it. `date` is there because Envoy adds it when it is not."""
    return Message(_bytes(((":status", str(status)), ("date", DATE), *headers)), chunks, _bytes(trailers))


def _bytes(pairs: tuple[tuple[str, str], ...]) -> Headers:
    return tuple((key.encode("latin-1"), value.encode("latin-1")) for key, value in pairs)


def tag(message: Message, number: str) -> Message:
    """The request with its case's number, by which servers and logs know it; `@case` in headers stands for it."""
    mark = number.encode()
    headers: Headers = tuple((key, value.replace(b"@case", mark)) for key, value in message.headers)
    pseudo = sum(1 for key, _ in headers if key.startswith(b":"))
    return replace(message, headers=(*headers[:pseudo], (b"x-case", mark), *headers[pseudo:]))


DATE = "Thu, 01 Jan 1970 00:00:00 GMT"
"""The date that scripted upstreams send."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request to one plugin, with what the servers behind it will answer.

    Attributes:
        plugin: The plugin's name, see `plugins.PLUGINS`.
        request: What the client sends; the harness adds the header `x-case`.
        upstream: What the upstream answers once it has the whole request.
        callout: What the server behind call-outs answers; None: it never answers.
    """

    plugin: str
    request: Message
    upstream: Message = field(default_factory=response)
    callout: Message | None = field(default_factory=response)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one host made of a case.

    Attributes:
        reply: What the client got; None when the stream was reset before the headers came.
        complete: Whether the reply ended properly, not by a reset.
        forwarded: What the upstream got; None when nothing (or not all of it) arrived.
        callouts: What the server behind call-outs got.
        log: What the plugin logged about this case.
    """

    reply: Message | None
    complete: bool
    forwarded: Message | None
    callouts: tuple[Message, ...] = ()
    log: tuple[str, ...] = ()
