"""A whole request through a chain of plugins: the convenient way to drive a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from labkit.proxywasm.headers import HeaderInput, Pair, to_bytes, to_pairs
from labkit.proxywasm.properties import StreamInfo
from labkit.proxywasm.result import Headers, Request, Response, Result
from labkit.proxywasm.stream import HttpStream, Outgoing

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

Upstream = Callable[[Request], Response] | Response
"""Who answers requests that pass the plugins."""


def run_request(
    plugins: Sequence[Plugin],
    info: StreamInfo,
    method: str,
    url: str,
    *,
    headers: HeaderInput | None = None,
    body: bytes | str = b"",
    trailers: HeaderInput | None = None,
    upstream: Upstream | None = None,
) -> Result:
    """Send the request, let the upstream answer what came through, return what the client gets."""
    stream = HttpStream(plugins, info)
    data = to_bytes(body)
    stream.request_headers(request_pairs(method, url, headers), end_of_stream=not data and not trailers)
    if data and not stream.directions[0].over:
        stream.request_body(data, end_of_stream=not trailers)
    if trailers and not stream.directions[0].over:
        stream.request_trailers(trailers)
    forwarded = None
    if stream.upstream.complete:
        forwarded = _request(stream.upstream, info.cluster)
        if stream.directions[1].headers is None:
            answer = upstream(forwarded) if callable(upstream) else upstream or Response()
            _respond(stream, answer)
    stream.close()
    return result_of(stream, forwarded)


def request_pairs(method: str, url: str, headers: HeaderInput | None) -> list[Pair]:
    """Pseudo-headers in the order in which Envoy's HTTP/1 codec makes them, then the headers."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    given = to_pairs(headers)
    authority = parts.netloc or "example.com"
    pairs = [
        (b":authority", authority.encode()),
        (b":path", path.encode()),
        (b":method", method.encode()),
        (b":scheme", (parts.scheme or "http").encode()),
    ]
    replaced = {b":authority" if name == b"host" else name for name, _ in given}
    return [pair for pair in pairs if pair[0] not in replaced] + given


def _request(outgoing: Outgoing, cluster: str) -> Request:
    return Request(
        Headers(outgoing.headers),
        bytes(outgoing.body),
        Headers(outgoing.trailers) if outgoing.trailers is not None else None,
        cluster,
    )


def _respond(stream: HttpStream, response: Response) -> None:
    body = to_bytes(response.body)
    given = response.headers
    pairs = [(b":status", str(response.status).encode()), *to_pairs(given)]
    stream.response_headers(pairs, end_of_stream=not body and not response.trailers)
    if body and stream.reset_reason is None:
        stream.response_body(body, end_of_stream=not response.trailers)
    if response.trailers and stream.reset_reason is None:
        stream.response_trailers(response.trailers)


def result_of(stream: HttpStream, forwarded: Request | None) -> Result:
    """What the client got, and how."""
    downstream = stream.downstream
    headers = Headers(downstream.headers)
    status = headers.get(":status")
    if stream.replied_by is not None:
        sent_by = "host" if stream.info.details == "wasm_fail_stream" else "plugin"
    else:
        sent_by = "host" if stream.direct else "upstream"
    return Result(
        status=int(status) if status else 0,
        headers=headers,
        body=bytes(downstream.body),
        trailers=Headers(downstream.trailers) if downstream.trailers is not None else None,
        sent_by=sent_by,  # type: ignore[arg-type]
        forwarded=forwarded,
        logs=stream.logs,
        problems=stream.problems,
        details=stream.info.details,
        reset=stream.reset_reason,
    )
