"""The call-outs of a plugin that are under way, and how their answers reach it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from labkit.proxywasm import proto
from labkit.proxywasm.enums import BufferType, MapType, Status
from labkit.proxywasm.errors import HostCallFailed, PluginError, UnknownCluster
from labkit.proxywasm.handlers import (
    Delayed,
    GrpcRequest,
    GrpcResponse,
    Handler,
    RedisRequest,
    Reset,
    as_response,
    call_url,
)
from labkit.proxywasm.headers import HeaderMap, MapKind, Pair, to_bytes, to_pairs
from labkit.proxywasm.messages import Headers, Request, Response

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import PluginContext
    from labkit.proxywasm.host import Host

_GRPC_DEADLINE_EXCEEDED, _GRPC_UNAVAILABLE = 4, 14
_CONNECT_ERROR = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"


class GrpcStream:
    """The service's end of a gRPC stream.

    A handler gets it and may set `on_message(message, end_of_stream)`, `on_close()` and `on_cancel()`; it sends with
    the methods, at any time.
    """

    def __init__(self, caller: Callouts, token: int, request: GrpcRequest) -> None:
        self.request = request
        self.on_message: Callable[[bytes, bool], object] = lambda message, end_of_stream: None
        self.on_close: Callable[[], object] = lambda: None
        self.on_cancel: Callable[[], object] = lambda: None
        self.received: list[bytes] = []
        self._caller = caller
        self._token = token

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]] | dict[str, str]) -> None:
        """`proxy_on_grpc_receive_initial_metadata`."""
        self._metadata(MapType.GRPC_RECEIVE_INITIAL_METADATA, "initial", metadata)

    def send(self, message: bytes) -> None:
        """`proxy_on_grpc_receive`."""
        self._caller.deliver_grpc_message(self._token, message)

    def send_trailing_metadata(self, metadata: Sequence[tuple[str, str]] | dict[str, str]) -> None:
        """`proxy_on_grpc_receive_trailing_metadata`."""
        self._metadata(MapType.GRPC_RECEIVE_TRAILING_METADATA, "trailing", metadata)

    def close(self, status: int = 0, message: str = "") -> None:
        """`proxy_on_grpc_close`."""
        self._caller.deliver_grpc_close(self._token, status, message)

    def _metadata(self, kind: MapType, name: str, metadata: Sequence[tuple[str, str]] | dict[str, str]) -> None:
        pairs = to_pairs(metadata)
        self._caller.deliver(
            self._token,
            f"proxy_on_grpc_receive_{name}_metadata",
            (len(pairs),),
            maps={kind: HeaderMap(pairs, MapKind.RESPONSE)},
        )


@dataclass
class _Call:
    kind: str
    request: Any
    stream: GrpcStream | None = None
    local_closed: bool = False
    remote_closed: bool = False
    maps: dict[int, HeaderMap] = field(default_factory=dict)


class Callouts:
    """The call-outs of one plugin configuration that are under way."""

    def __init__(self, plugin: PluginContext) -> None:
        self.plugin = plugin
        self.calls: dict[int, _Call] = {}

    @property
    def host(self) -> Host:
        """Whose clusters are called."""
        return self.plugin.vm.host

    def http(self, cluster: str, headers: list[Pair], body: bytes, trailers: list[Pair], timeout: int) -> int | Status:
        """Start an HTTP call; its token."""
        if timeout >> 31:
            return Status.BAD_ARGUMENT
        handler = self._handler(cluster, "proxy_http_call")
        if handler is None:
            return Status.BAD_ARGUMENT
        header_map = HeaderMap(headers, MapKind.REQUEST)
        missing = [name for name in (b":path", b":method", b":authority") if header_map.get(name) is None]
        if missing:
            self._report(f"proxy_http_call: argument headers lacks {missing[0].decode()}", "headers")
            return Status.BAD_ARGUMENT
        if header_map.get(b":scheme") is None:
            header_map.add(b":scheme", b"http")
        if body:
            header_map.replace(b"content-length", str(len(body)).encode())
        request = Request(
            Headers(header_map),
            body,
            Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in trailers])
            if trailers
            else None,
            cluster,
            timeout / 1e3 or None,
        )
        token = self._begin("http", request)
        self._ask(token, handler, request, self._http_answer)
        if timeout:
            self.host.call_later(timeout / 1e3, lambda: self._http_timeout(token))
        return token

    def grpc(self, service: bytes, request: GrpcRequest, timeout: int) -> int | Status:
        """Start a unary gRPC call; its token."""
        handler = self._grpc_handler(service, request)
        if isinstance(handler, Status):
            return handler
        token = self._begin("grpc", request)
        self._ask(token, handler, request, self._grpc_answer)
        if timeout:
            self.host.call_later(
                timeout / 1e3,
                lambda: self.deliver_grpc_close(token, _GRPC_DEADLINE_EXCEEDED, "upstream request timeout"),
            )
        return token

    def grpc_stream(self, service: bytes, request: GrpcRequest) -> int | Status:
        """Start a gRPC stream; its token."""
        handler = self._grpc_handler(service, request)
        if isinstance(handler, Status):
            return handler
        token = self._begin("grpc_stream", request)
        stream = self.calls[token].stream = GrpcStream(self, token, request)
        self._ask(token, handler, stream, lambda token, answer: None)
        return token

    def redis(self, cluster: str, query: bytes) -> int | Status:
        """Start a Redis call; its token."""
        name = cluster.partition("?")[0]
        handler = self._handler(name, "proxy_redis_call")
        if handler is None:
            return Status.BAD_ARGUMENT
        request = RedisRequest(name, query)
        token = self._begin("redis", request)
        self._ask(token, handler, request, self._redis_answer)
        return token

    def _handler(self, cluster: str, function: str) -> Handler | None:
        handler = self.host.clusters.get(cluster)
        if handler is None:
            known = ", ".join(sorted(self.host.clusters)) or "none"
            self.plugin.vm.report(
                UnknownCluster(
                    f"{function}: no cluster {cluster!r} (known: {known})",
                    module=self.plugin.vm.module.name,
                    function=function,
                    argument="cluster",
                    hint="give Host(clusters={…}) a handler for it",
                )
            )
        return handler

    def _grpc_handler(self, service: bytes, request: GrpcRequest) -> Handler | Status:
        handler = self._handler(request.cluster, "proxy_grpc_call")
        if handler is None:
            # Envoy finds out about a cluster named in a proto only when it sends.
            return Status.INTERNAL_FAILURE if grpc_cluster(service) is not None else Status.PARSE_FAILURE
        return handler

    def _report(self, message: str, argument: str) -> None:
        vm = self.plugin.vm
        vm.report(PluginError(message, module=vm.module.name, function=message.split(":")[0], argument=argument))

    def _begin(self, kind: str, request: Any) -> int:
        token = self.plugin.vm.next_call_id(kind)
        self.calls[token] = _Call(kind, request)
        return token

    def _ask(self, token: int, handler: Handler, request: Any, done: Callable[[int, Any], None]) -> None:
        def ask() -> None:
            if token not in self.calls:
                return
            try:
                answer = call_url(handler, request) if isinstance(handler, str) else handler(request)
            except Exception as error:
                answer = error
            if inspect.isawaitable(answer):
                self.host.run_async(answer, lambda result: self._answered(token, result, done))
            else:
                self._answered(token, answer, done)

        self.host.call_soon(ask)

    def _answered(self, token: int, answer: Any, done: Callable[[int, Any], None]) -> None:
        if isinstance(answer, Delayed):
            self.host.call_later(answer.seconds, lambda: self._answered(token, answer.answer, done))
        elif isinstance(answer, (Reset, ConnectionError, httpx.TransportError)) or not isinstance(answer, Exception):
            done(token, answer)
        else:
            failure = HostCallFailed(
                f"the handler of a call-out failed: {type(answer).__name__}: {answer}",
                module=self.plugin.vm.module.name,
            )
            failure.__cause__ = answer
            self.calls.pop(token, None)
            raise failure

    def _http_answer(self, token: int, answer: Any) -> None:
        if answer is None:
            return
        if isinstance(answer, Reset):
            self.plugin.status = (Status.BROKEN_CONNECTION, "reset")
            self.deliver(token, "proxy_on_http_call_response", (0, 0, 0), end=True)
            self.plugin.status = (Status.BROKEN_CONNECTION, "")
            return
        if isinstance(answer, Exception):
            answer = Response(503, _text_headers(_CONNECT_ERROR), _CONNECT_ERROR)
        response = as_response(answer)
        pairs = [(b":status", str(response.status).encode()), *to_pairs(response.headers)]
        maps: dict[int, HeaderMap] = {MapType.HTTP_CALL_RESPONSE_HEADERS: HeaderMap(pairs, MapKind.RESPONSE)}
        trailers = HeaderMap(to_pairs(response.trailers), MapKind.RESPONSE_TRAILERS)
        if trailers:
            maps[MapType.HTTP_CALL_RESPONSE_TRAILERS] = trailers
        body = to_bytes(response.body)
        sizes = (len(maps[MapType.HTTP_CALL_RESPONSE_HEADERS]), len(body), len(trailers))
        self.deliver(
            token,
            "proxy_on_http_call_response",
            sizes,
            maps=maps,
            buffers={BufferType.HTTP_CALL_RESPONSE_BODY: body},
            end=True,
        )

    def _http_timeout(self, token: int) -> None:
        """Envoy's client answers a call that took too long with a response of its own."""
        text = "upstream request timeout"
        self._http_answer(token, Response(504, _text_headers(text), text))

    def _grpc_answer(self, token: int, answer: Any) -> None:
        if answer is None:
            return
        if isinstance(answer, Exception):
            answer = GrpcResponse(status=_GRPC_UNAVAILABLE, status_message=_CONNECT_ERROR)
        if isinstance(answer, bytes):
            answer = GrpcResponse(answer)
        if answer.status:
            self.deliver_grpc_close(token, answer.status, answer.status_message)
        else:
            self.deliver_grpc_message(token, answer.message)

    def deliver_grpc_message(self, token: int, message: bytes) -> None:
        """`proxy_on_grpc_receive`; the end of a unary call."""
        call = self.calls.get(token)
        self.deliver(
            token,
            "proxy_on_grpc_receive",
            (len(message),),
            buffers={BufferType.GRPC_RECEIVE_BUFFER: message},
            end=call is not None and call.kind == "grpc",
        )

    def deliver_grpc_close(self, token: int, status: int, message: str) -> None:
        """`proxy_on_grpc_close`; the end of a call that failed, or of a stream."""
        call = self.calls.get(token)
        if call is None:
            return
        call.remote_closed = True
        self.plugin.status = (status, message)
        self.deliver(token, "proxy_on_grpc_close", (status,), end=call.kind == "grpc" or call.local_closed)
        self.plugin.status = (status, "")

    def _redis_answer(self, token: int, answer: Any) -> None:
        if answer is None:
            return
        failed = isinstance(answer, Exception)
        body = b"" if failed else to_bytes(answer)
        if failed:
            self.plugin.status = (Status.BROKEN_CONNECTION, "reset")
        self.deliver(
            token,
            "proxy_on_redis_call_response",
            (int(failed), len(body)),
            buffers={BufferType.REDIS_CALL_RESPONSE: body},
            end=True,
        )

    def deliver(
        self,
        token: int,
        callback: str,
        args: tuple[int, ...],
        *,
        maps: Mapping[int, HeaderMap] | None = None,
        buffers: Mapping[int, bytes] | None = None,
        end: bool = False,
    ) -> None:
        """Call back with maps and buffers in place; a call that is over or cancelled is not answered."""
        plugin = self.plugin
        if token not in self.calls:
            return
        plugin.call_maps.update(maps or {})
        plugin.call_buffers.update(buffers or {})
        try:
            plugin.enter(callback, token, *args)
        finally:
            for kind in maps or ():
                plugin.call_maps.pop(kind, None)
            for kind in buffers or ():
                plugin.call_buffers.pop(kind, None)
            if end:
                self.calls.pop(token, None)

    def send(self, token: int, message: bytes, end_of_stream: bool) -> Status:
        """Send a message on a gRPC stream."""
        call = self._stream_call(token)
        if isinstance(call, Status):
            return call
        stream = call.stream
        assert stream is not None
        stream.received.append(message)
        self.host.call_soon(lambda: stream.on_message(message, end_of_stream))
        return Status.OK

    def close(self, token: int) -> Status:
        """Close this side of a stream, or cancel a unary call."""
        call = self._grpc_call(token)
        if isinstance(call, Status):
            return call
        if call.stream is None or call.remote_closed:
            del self.calls[token]
        else:
            call.local_closed = True
        if call.stream is not None:
            self.host.call_soon(call.stream.on_close)
        return Status.OK

    def cancel(self, token: int) -> Status:
        """Cancel a unary call, or reset a stream."""
        call = self._grpc_call(token)
        if isinstance(call, Status):
            return call
        del self.calls[token]
        if call.stream is not None:
            self.host.call_soon(call.stream.on_cancel)
        return Status.OK

    def _stream_call(self, token: int) -> _Call | Status:
        if token & 3 != 2:
            return Status.BAD_ARGUMENT
        return self.calls.get(token) or Status.NOT_FOUND

    def _grpc_call(self, token: int) -> _Call | Status:
        if token & 3 not in (1, 2):
            return Status.BAD_ARGUMENT
        return self.calls.get(token) or Status.NOT_FOUND


def _text_headers(text: str) -> tuple[tuple[str, str], ...]:
    return (("content-length", str(len(text))), ("content-type", "text/plain"))


def grpc_cluster(service: bytes) -> str | None:
    """The cluster's name in a serialized `envoy.config.core.v3.GrpcService`; None when it is none."""
    target = (proto.fields(service) or {}).get(1)
    name = (proto.fields(target) or {}).get(1) if target is not None else None
    return name.decode(errors="replace") if name is not None else None
