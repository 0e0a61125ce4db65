"""A whole request through a chain of plugins: the convenient way to drive a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from labkit.proxywasm.errors import StreamStuck
from labkit.proxywasm.handlers import as_response
from labkit.proxywasm.headers import HeaderInput, Pair, to_bytes, to_pairs
from labkit.proxywasm.host import run_until
from labkit.proxywasm.messages import Headers, Request, Response
from labkit.proxywasm.outgoing import Outgoing
from labkit.proxywasm.properties import StreamInfo
from labkit.proxywasm.result import Result
from labkit.proxywasm.stream import HttpStream

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

Upstream = Callable[[Request], Any] | Response | int | str | bytes
"""Who answers requests that pass the plugins: a response, or a callable that returns one."""


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
    chunk_size: int | None = None,
    timeout: float = 15.0,
    begun: HttpStream | None = None,
) -> Result:
    """Send the request, let the upstream answer what came through, return what the client gets.

    Args:
        begun: A stream on which the plugin was called ahead for this very request (`labkit.proxywasm._fast`).
    """
    with contextlib.ExitStack() as locks:
        for plugin in plugins:
            locks.enter_context(plugin.host.lock)
        stream = begun or HttpStream(plugins, info)
        _send(stream, request_pairs(method, url, headers), split(to_bytes(body), chunk_size), trailers)
        settle(stream, lambda: stream.upstream.complete or stream.answered, timeout)
    forwarded = None
    if stream.upstream.complete:
        forwarded = forwarded_request(stream.upstream, info.cluster)
    response = None
    if forwarded is not None and stream.directions[1].headers is None and stream.reset_reason is None:
        # Without the locks: the upstream may itself send requests through these plugins.
        answer = upstream(forwarded) if callable(upstream) else upstream
        response = Response() if answer is None else as_response(answer)
    with contextlib.ExitStack() as locks:
        for plugin in plugins:
            locks.enter_context(plugin.host.lock)
        if response is not None:
            respond(stream, response, chunk_size)
            settle(stream, lambda: stream.downstream.complete, timeout)
        stream.close()
    return result_of(stream, forwarded)


def _send(stream: HttpStream, pairs: list[Pair], chunks: list[bytes], trailers: HeaderInput | None) -> None:
    request = stream.directions[0]
    stream.request_headers(pairs, end_of_stream=not chunks and not trailers)
    for number, chunk in enumerate(chunks, 1):
        if not request.over:
            stream.request_body(chunk, end_of_stream=number == len(chunks) and not trailers)
    if trailers and not request.over:
        stream.request_trailers(trailers)


def settle(stream: HttpStream, done: Callable[[], bool], timeout: float) -> None:
    """Run timers and call-outs until the stream can go on; a stream that never will is answered as Envoy does."""
    if done() or stream.reset_reason is not None or not stream.plugins:
        return
    hosts = list({id(plugin.host): plugin.host for plugin in stream.plugins}.values())
    if run_until(hosts, lambda: done() or stream.reset_reason is not None, timeout):
        return
    stream.stuck(
        StreamStuck(
            "a plugin keeps the stream paused, and nothing is under way that would let it continue",
            module=stream.plugins[0].name,
            hint="the plugin must call continue_stream or send a local response",
        )
    )


def split(body: bytes, chunk_size: int | None) -> list[bytes]:
    """The chunks in which a body is sent."""
    if not body:
        return []
    size = chunk_size or len(body)
    return [body[start : start + size] for start in range(0, len(body), size)]


def request_pairs(method: str, url: str, headers: HeaderInput | None) -> list[Pair]:
    """Pseudo-headers in the order in which Envoy's HTTP/1 codec makes them, the headers, and x-forwarded-proto."""
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
    forwarded = (b"x-forwarded-proto", pairs[-1][1])
    if not given:
        return [*pairs, forwarded]
    replaced = {b":authority" if name == b"host" else name for name, _ in given}
    if forwarded[0] not in replaced:
        given.append(forwarded)
    return [pair for pair in pairs if pair[0] not in replaced] + given


def forwarded_request(outgoing: Outgoing, cluster: str) -> Request:
    """What the upstream receives."""
    trailers = Headers(outgoing.trailers) if outgoing.trailers is not None else None
    return Request(Headers(outgoing.headers), bytes(outgoing.body), trailers, cluster)


def respond(stream: HttpStream, response: Response, chunk_size: int | None = None) -> None:
    """Send the upstream's response through the plugins."""
    chunks = split(to_bytes(response.body), chunk_size)
    pairs = [(b":status", str(response.status).encode()), *to_pairs(response.headers)]
    stream.response_headers(pairs, end_of_stream=not chunks and not response.trailers)
    for number, chunk in enumerate(chunks, 1):
        if not stream.directions[1].over:
            stream.response_body(chunk, end_of_stream=number == len(chunks) and not response.trailers)
    if response.trailers and not stream.directions[1].over:
        stream.response_trailers(response.trailers)


def result_of(stream: HttpStream, forwarded: Request | None) -> Result:
    """What the client got, and how."""
    downstream = stream.downstream
    headers = Headers(downstream.headers)
    status = headers.get(":status")
    return Result(
        status=int(status) if status else 0,
        headers=headers,
        body=bytes(downstream.body),
        trailers=Headers(downstream.trailers) if downstream.trailers is not None else None,
        sent_by=_sender(stream),
        forwarded=forwarded,
        logs=stream.logs,
        problems=stream.problems,
        details=stream.info.details or "",
        reset=stream.reset_reason,
    )


def _sender(stream: HttpStream) -> Literal["plugin", "upstream", "host"]:
    if stream.replied_by is None:
        return "host" if stream.replied else "upstream"
    return "host" if stream.info.details == "wasm_fail_stream" else "plugin"
