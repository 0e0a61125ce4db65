"""The response that a plugin or the host sends instead of the upstream, with the headers that Envoy gives it."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.proxywasm.headers import HeaderMap, MapKind, Pair

_GRPC_STATUS = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN = 2
_GRPC_LAST = 16


def grpc_status(status: int) -> int:
    """The gRPC status that an HTTP status stands for."""
    return _GRPC_STATUS.get(status, _GRPC_UNKNOWN)


@dataclass(frozen=True, slots=True)
class LocalReply:
    """A response ready to be sent."""

    headers: HeaderMap
    body: bytes


def prepare(status: int, body: bytes, headers: list[Pair], grpc: int, request: HeaderMap | None) -> LocalReply:
    """Status, the given headers, then content-length and content-type; a gRPC request gets trailers only."""
    reply = HeaderMap([(b":status", str(status).encode())], MapKind.RESPONSE)
    for name, value in headers:
        reply.add(name, value)
    head = request is not None and request.get(b":method") == b"HEAD"
    if request is not None and _is_grpc(request):
        _set(reply, b":status", b"200")
        _set(reply, b"content-type", b"application/grpc")
        if not reply.get(b"grpc-status"):
            code = grpc if 0 <= grpc <= _GRPC_LAST else grpc_status(status)
            _set(reply, b"grpc-status", str(code).encode())
        if body and not head:
            _set(reply, b"grpc-message", _percent_encode(body))
        reply.remove(b"content-length")
        return LocalReply(reply, b"")
    if body:
        _set(reply, b"content-length", str(len(body)).encode())
        if reply.get(b"content-type") is None:
            reply.add(b"content-type", b"text/plain")
    else:
        reply.remove(b"content-length")
        reply.remove(b"content-type")
    return LocalReply(reply, b"" if head else body)


def _set(headers: HeaderMap, name: bytes, value: bytes) -> None:
    """Set an inline header, which keeps its place when it is there."""
    for index, (key, _) in enumerate(headers.pairs):
        if key == name:
            headers.pairs[index] = (name, value)
            return
    headers.add(name, value)


def _is_grpc(request: HeaderMap) -> bool:
    content_type = request.get(b"content-type") or b""
    return content_type == b"application/grpc" or content_type.startswith(b"application/grpc+")


def _percent_encode(data: bytes) -> bytes:
    return b"".join(bytes((byte,)) if 0x20 <= byte < 0x7F and byte != 0x25 else b"%%%02X" % byte for byte in data)
