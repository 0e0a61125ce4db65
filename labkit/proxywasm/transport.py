"""Plain httpx clients that talk through plugins.

    client = httpx.Client(transport=PluginTransport([plugin], app))
    client.get("http://example.com/foo")

Behind the plugins is an ASGI app, a callable from `Request` to `Response`, an httpx transport, or nothing: then the
request goes to the real network.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any

import httpx

from labkit.proxywasm.handlers import as_response
from labkit.proxywasm.headers import Pair
from labkit.proxywasm.messages import Request, Response
from labkit.proxywasm.plugin import Plugin
from labkit.proxywasm.properties import StreamInfo
from labkit.proxywasm.request import run_request
from labkit.proxywasm.result import Result

Backend = Any
"""An ASGI app, a callable, an httpx transport (sync or async), or None for the real network."""

InfoFactory = Callable[[httpx.Request], StreamInfo]
"""Makes the facts about a stream from the client's request: route, cluster, properties."""


class PluginTransport(httpx.BaseTransport):
    """Send a client's requests through plugins; `response.extensions["labkit"]` is the `Result`.

    Args:
        plugins: One, or a chain of them in the order of the request.
        upstream: Who is behind them.
        info: Makes facts that the plugins can ask for, such as the route's name.
        timeout: Seconds of the host's clock to wait for call-outs and timers while a plugin pauses.
    """

    def __init__(
        self,
        plugins: Plugin | Sequence[Plugin],
        upstream: Backend = None,
        *,
        info: InfoFactory | None = None,
        timeout: float = 15.0,
    ) -> None:
        self.plugins = [plugins] if isinstance(plugins, Plugin) else list(plugins)
        self._upstream = httpx.HTTPTransport() if upstream is None else upstream
        self._info = info or (lambda request: StreamInfo())
        self._timeout = timeout

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        result = self._run(request, bytes(request.read()), self._answer)
        return _to_httpx(result, request)

    def _run(self, request: httpx.Request, body: bytes, answer: Callable[[Request], Any]) -> Result:
        return run_request(
            self.plugins,
            self._info(request),
            request.method,
            str(request.url),
            headers=_pairs(request),
            body=body,
            upstream=answer,
            timeout=self._timeout,
        )

    def _answer(self, request: Request) -> Response:
        upstream = self._upstream
        if isinstance(upstream, httpx.BaseTransport):
            response = upstream.handle_request(_from_request(request))
            try:
                response.read()
                return as_response(response)
            finally:
                response.close()
        loop = self.plugins[0].host.event_loop() if self.plugins else None
        if isinstance(upstream, httpx.AsyncBaseTransport):
            return _in_loop(_send(upstream, request), loop)
        if is_asgi(upstream):
            return _in_loop(call_asgi(upstream, request), loop)
        return as_response(upstream(request))

    def close(self) -> None:
        """Close the transport behind."""
        if isinstance(self._upstream, httpx.BaseTransport):
            self._upstream.close()


class AsyncPluginTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`: plugins run in a thread, the upstream in the client's own event loop."""

    def __init__(
        self,
        plugins: Plugin | Sequence[Plugin],
        upstream: Backend = None,
        *,
        info: InfoFactory | None = None,
        timeout: float = 15.0,
    ) -> None:
        self._upstream = httpx.AsyncHTTPTransport() if upstream is None else upstream
        self._sync = PluginTransport(plugins, self._upstream, info=info, timeout=timeout)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        body = bytes(await request.aread())
        loop = asyncio.get_running_loop()

        def answer(inner: Request) -> Response:
            return asyncio.run_coroutine_threadsafe(self._answer(inner), loop).result()

        result = await asyncio.to_thread(self._sync._run, request, body, answer)
        return _to_httpx(result, request)

    async def _answer(self, request: Request) -> Response:
        upstream = self._upstream
        if isinstance(upstream, httpx.AsyncBaseTransport):
            return await _send(upstream, request)
        if is_asgi(upstream):
            return await call_asgi(upstream, request)
        if isinstance(upstream, httpx.BaseTransport):
            return await asyncio.to_thread(self._sync._answer, request)
        answer = upstream(request)
        return as_response(await answer if inspect.isawaitable(answer) else answer)

    async def aclose(self) -> None:
        """Close the transport behind."""
        if isinstance(self._upstream, httpx.AsyncBaseTransport):
            await self._upstream.aclose()


def is_asgi(app: Any) -> bool:
    """Whether this is an ASGI app: a callable of scope, receive and send."""
    try:
        return len(inspect.signature(app).parameters) == 3
    except (TypeError, ValueError):
        return False


async def call_asgi(app: Any, request: Request) -> Response:
    """Ask an ASGI app."""
    path, _, query = request.path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.headers.get(":scheme", "http"),
        "path": httpx.URL(f"http://x{path}").path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value) for name, value in _raw(request)],
        "client": ("127.0.0.1", 50000),
        "server": (request.authority.partition(":")[0], 80),
    }
    inbox: list[dict[str, Any]] = [{"type": "http.request", "body": request.body, "more_body": False}]
    status, headers, body = 500, list[tuple[str, str]](), bytearray()

    async def receive() -> dict[str, Any]:
        return inbox.pop() if inbox else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    await app(scope, receive, send)
    return Response(status, headers, bytes(body))


async def _send(transport: httpx.AsyncBaseTransport, request: Request) -> Response:
    response = await transport.handle_async_request(_from_request(request))
    await response.aread()
    return as_response(response)


def _in_loop(work: Coroutine[Any, Any, Response], loop: asyncio.AbstractEventLoop | None) -> Response:
    if loop is None:
        return asyncio.run(work)
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def _pairs(request: httpx.Request) -> list[Pair]:
    return [(name.lower(), value) for name, value in request.headers.raw]


def _raw(request: Request) -> Iterable[tuple[str, bytes]]:
    yield "host", request.authority.encode()
    for name, value in request.headers:
        if not name.startswith(":"):
            yield name, value.encode(errors="surrogateescape")


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Any:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def _from_request(request: Request) -> httpx.Request:
    headers = [(name.encode(), value) for name, value in _raw(request)]
    return httpx.Request(request.method, request.url, headers=headers, stream=_Body(request.body))


def _to_httpx(result: Result, request: httpx.Request) -> httpx.Response:
    if result.reset is not None or not result.status:
        raise httpx.RemoteProtocolError(f"stream reset: {result.reset}", request=request)
    headers = [
        (name.encode("latin-1"), value.encode(errors="surrogateescape"))
        for name, value in result.headers
        if not name.startswith(":")
    ]
    return httpx.Response(
        result.status, headers=headers, stream=_Body(result.body), request=request, extensions={"labkit": result}
    )
