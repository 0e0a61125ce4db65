"""What call-out handlers get and answer.

A host knows clusters by name; each has a handler, a callable that gets the request and returns the answer:

    host = Host(clusters={"auth": lambda request: Response(200 if request.path == "/ok" else 403)})

A handler may be a coroutine function, return `Delayed(answer, seconds)`, return None to never answer (so that the
call's time-out fires), and raise `ConnectionError` for a service that is down. A string is the URL of a real service.
The answer always arrives after the callback that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from labkit.proxywasm.errors import HostCallFailed
from labkit.proxywasm.headers import to_bytes
from labkit.proxywasm.messages import Headers, Request, Response


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """A unary gRPC call-out, or the beginning of a stream."""

    cluster: str
    service: str
    method: str
    metadata: Headers
    message: bytes = b""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class GrpcResponse:
    """The answer to a unary gRPC call-out: a message, or a status other than 0."""

    message: bytes = b""
    status: int = 0
    status_message: str = ""


@dataclass(frozen=True, slots=True)
class RedisRequest:
    """A Redis call-out (Higress): a query in Redis' wire format."""

    cluster: str
    query: bytes


@dataclass(frozen=True, slots=True)
class Delayed:
    """An answer that takes its time."""

    answer: Any
    seconds: float


class Reset(Exception):
    """Raised by a handler: the connection was reset, and the plugin gets no response at all."""


Handler = Callable[[Any], Any] | str
"""Answers a `Request`, `GrpcRequest` or `RedisRequest`; or the URL of a real service for HTTP."""


def as_response(answer: Any) -> Response:
    """Whatever a handler returned, as a response: a status, text, bytes, something for JSON, an httpx response."""
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, httpx.Response):
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw]
        return Response(answer.status_code, pairs, answer.content)
    if isinstance(answer, int):
        return Response(answer)
    if isinstance(answer, (str, bytes)):
        return Response(200, (("content-length", str(len(to_bytes(answer)))),), answer)
    raise HostCallFailed(f"a handler returned {type(answer).__name__}, which is no response", module="<handler>")


def call_url(base: str, request: Any) -> Response:
    """Ask a real service by HTTP."""
    if not isinstance(request, Request):
        raise HostCallFailed(f"{base} can be asked by HTTP only", module="<handler>")
    headers = [(name, value) for name, value in request.headers if not name.startswith(":")]
    headers.append(("host", request.authority))
    answer = httpx.request(
        request.method,
        base.rstrip("/") + request.path,
        headers=headers,
        content=request.body,
        timeout=request.timeout,
        follow_redirects=False,
    )
    return as_response(answer)
