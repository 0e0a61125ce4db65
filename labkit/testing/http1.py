"""Headers of an HTTP/1 message as a plugin sees them: pseudo-headers first, names in lower case."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from labkit.proxywasm.headers import Pair

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") +(\S+)(?: +HTTP/\d\.\d)? *")
_RESPONSE = re.compile(rb"HTTP/\d\.\d +(\d{3})(?: .*)?")
_HEADER = re.compile(rb"(" + _TOKEN + rb")[ \t]*:[ \t]*(.*?)[ \t]*", re.DOTALL)
_PATH = re.compile(rb"/[^\s#<>\"`{}|\\^\x00-\x1f\x7f-\xff]*")
_PORTS = {"http": 80, "https": 443}


class MalformedHeaders(ValueError):
    """The text is no head of an HTTP/1 message."""


def parse_http1(content: bytes, *, request: bool) -> list[Pair]:
    """The headers of a message; whatever follows an empty line is its body and does not count.

    Raises:
        MalformedHeaders: Says what is wrong.
    """
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    first, *rest = lines
    pairs = _lines(rest)
    if not request:
        status = _RESPONSE.fullmatch(first)
        if status is None:
            raise MalformedHeaders(f"no status line: {_shown(first)}")
        return [(b":status", status[1]), *pairs]
    start = _REQUEST.fullmatch(first)
    if start is None:
        raise MalformedHeaders(f"no request line: {_shown(first)}")
    return _request(start[1], start[2], pairs)


def _request(method: bytes, target: bytes, pairs: list[Pair]) -> list[Pair]:
    without_host = [pair for pair in pairs if pair[0] != b"host"]
    url = urlsplit(target.decode("latin-1"))
    if url.scheme and url.netloc:
        try:
            port = url.port
        except ValueError:
            raise MalformedHeaders(f"invalid URI: {_shown(target)}") from None
        shown = "" if port is None or port == _PORTS.get(url.scheme) else f":{port}"
        host = url.hostname or ""
        authority = f"[{host}]{shown}" if ":" in host else host + shown
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return [
            (b":method", method),
            (b":scheme", url.scheme.encode()),
            (b":path", path.encode("latin-1")),
            (b":authority", authority.encode("latin-1")),
            *without_host,
        ]
    if _PATH.fullmatch(target) is None:
        raise MalformedHeaders(f"invalid URI: {_shown(target)}")
    made = [(b":method", method), (b":path", target)]
    host_header = next((value for name, value in pairs if name == b"host"), b"")
    return [*made, (b":authority", host_header), *without_host] if host_header else [*made, *pairs]


def _lines(lines: list[bytes]) -> list[Pair]:
    pairs: list[Pair] = []
    for line in lines:
        if not line:
            break
        if line[:1] in b" \t" and pairs:
            name, value = pairs[-1]
            pairs[-1] = (name, value + b" " + line.strip(b" \t"))
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise MalformedHeaders(f"no header: {_shown(line)}")
        pairs.append((found[1].lower(), found[2]))
    return pairs


def _shown(line: bytes) -> str:
    return repr(line.decode(errors="replace"))
