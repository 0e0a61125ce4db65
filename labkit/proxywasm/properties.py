"""Properties as Envoy answers them, and the facts about a stream from which it does.

Envoy hands out attributes (`request.path`, `source.address`, …) and a few names of its own (`plugin_name`,
`route_name`, …); what a plugin sets with `proxy_set_property` is found under its path again, by it and by the plugins
behind it. Numbers travel as 8 bytes little-endian, booleans as one byte, maps as serialized pairs. What comes from
headers is there only while the plugin may read those headers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from labkit.proxywasm import localreply
from labkit.proxywasm.enums import MapType, Status
from labkit.proxywasm.headers import HeaderMap, Pair, serialize

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import Context

PropertyValue = str | bytes | int | float | bool | Mapping[str, Any]
"""A property: text and bytes are passed as they are, numbers as 8 bytes, booleans as one, mappings as pairs."""

Flavour = Literal["envoy", "higress"]
"""Whose answers to `route_name` and `cluster_name` to give: Higress knows them from the start."""

_TRUNCATED = 1 << 64


@dataclass
class StreamInfo:
    """Facts about one stream, shared by all plugins of its chain.

    Attributes:
        properties: Set by the caller, by dotted path (`request.path`, `route_name`, `metadata.filter_metadata.x`);
            they win over everything else.
        filter_state: Set by plugins with `proxy_set_property`.
        route: Name of the route.
        cluster: Name of the cluster.
        source_address: The client's `ip:port`.
        destination_address: The listener's `ip:port`.
        upstream_address: The upstream host's `ip:port`, once one was chosen.
        protocol: Of the request.
        connection_id: Of the client's connection.
        requested_server_name: From TLS.
        start_time: Nanoseconds since 1970; the host's clock by default.
        upstream_hosts: (address, JSON) of the cluster's hosts, for Higress' `proxy_get_upstream_hosts`.
        override_host: What a plugin chose with Higress' `proxy_set_upstream_override_host`.
        details: Response code details.
        code: The response's status, once the upstream sent it or a local reply went out.
    """

    properties: dict[str, PropertyValue] = field(default_factory=dict)
    filter_state: dict[bytes, bytes] = field(default_factory=dict)
    route: str = ""
    cluster: str = ""
    source_address: str = "127.0.0.1:50000"
    destination_address: str = "127.0.0.1:8080"
    upstream_address: str = ""
    protocol: str = "HTTP/1.1"
    connection_id: int = 1
    requested_server_name: str = ""
    start_time: int | None = None
    request_headers: HeaderMap | None = None
    response_headers: HeaderMap | None = None
    response_trailers: HeaderMap | None = None
    upstream_hosts: list[Pair] = field(default_factory=list)
    override_host: str | None = None
    details: str | None = None
    code: int | None = None
    bytes_received: int = 0
    bytes_sent: int = 0
    routed: bool = False
    complete: bool = False


def encode(value: PropertyValue) -> bytes:
    """A property's bytes."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    if isinstance(value, int):
        return struct.pack("<Q", value % _TRUNCATED)
    if isinstance(value, float):
        return struct.pack("<d", value)
    return serialize([(key.encode(), encode(item)) for key, item in value.items()])


def lookup(context: Context, path: bytes) -> bytes | Status:
    """The property at `path`, whose parts are separated by zero bytes."""
    parts = path.split(b"\0")
    if not parts[-1]:
        parts.pop()
    if not parts:
        return Status.SERIALIZATION_FAILURE
    info = context.info
    if info is not None and info.properties:
        given = _given(info.properties, b".".join(parts).decode(errors="replace"))
        if given is not None:
            return encode(given)
    names = [part.decode(errors="replace") for part in parts]
    root = _ROOTS.get(names[0])
    if root is None:
        state = info.filter_state.get(parts[0]) if info is not None else None
        return state if state is not None and len(parts) == 1 else Status.NOT_FOUND
    value = root(context, names[1:])
    if value is None:
        unnamed = len(names) == 1 and names[0] in _OBJECTS and info is not None
        return Status.SERIALIZATION_FAILURE if unnamed else Status.NOT_FOUND
    return encode(value)


def is_attribute(path: bytes) -> bool:
    """Whether the host has an answer of its own for paths that begin like this one."""
    return path.partition(b"\0")[0].decode(errors="replace") in _ROOTS


def _given(properties: Mapping[str, PropertyValue], path: str) -> PropertyValue | None:
    """What the caller set for this path, or below it as a mapping."""
    if path in properties:
        return properties[path]
    head, _, rest = path.rpartition(".")
    while head:
        inner = properties.get(head)
        if isinstance(inner, Mapping):
            return _given(inner, rest)
        head, _, tail = head.rpartition(".")
        rest = f"{tail}.{rest}"
    return None


def store(context: Context, path: bytes, value: bytes) -> Status:
    """Set a property of the stream."""
    info = context.info
    if info is None:
        return Status.NOT_FOUND
    info.filter_state[path] = value
    return Status.OK


_Resolver = Callable[["Context", list[str]], PropertyValue | None]


def _text(headers: HeaderMap | None, name: bytes) -> bytes | None:
    return headers.get(name) if headers is not None else None


def _header(headers: HeaderMap | None, rest: list[str]) -> PropertyValue | None:
    if not rest:
        joined: dict[bytes, bytes] = {}
        for key, value in headers.pairs if headers is not None else ():
            joined[key] = joined[key] + b"," + value if key in joined else value
        return serialize(list(joined.items()))
    if headers is None:
        return None
    if len(rest) > 1:
        return None
    name = rest[0].lower().encode()
    values = [value for key, value in headers.pairs if key == name]
    return b",".join(values) if values else None


def _request(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    if info is None or not rest:
        return None
    headers = context.attribute_map(MapType.REQUEST_HEADERS)
    name = rest[0]
    if name == "headers":
        return _header(headers, rest[1:])
    if len(rest) > 1:
        return None
    if name in _REQUEST_HEADERS:
        return _text(headers, _REQUEST_HEADERS[name])
    path = _text(headers, b":path")
    match name:
        case "url_path":
            return None if headers is None else (path or b"").partition(b"?")[0]
        case "query":
            return None if headers is None else (path or b"").partition(b"?")[2].partition(b"#")[0]
        case "time":
            return info.start_time
        case "size":
            length = _text(headers, b"content-length")
            if length is None:
                return info.bytes_received
            return int(length) if length.isdigit() else None
        case "total_size":
            return info.bytes_received + (headers.byte_size() if headers is not None else 0)
        case "duration":
            started = info.start_time or 0
            return context.vm.host.clock.time_ns() - started if info.complete else None
        case "protocol":
            return info.protocol
    return None


_REQUEST_HEADERS = {
    "path": b":path",
    "host": b":authority",
    "scheme": b":scheme",
    "method": b":method",
    "referer": b"referer",
    "id": b"x-request-id",
    "useragent": b"user-agent",
}


def _response(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    if info is None or not rest:
        return None
    headers = context.attribute_map(MapType.RESPONSE_HEADERS)
    trailers = context.attribute_map(MapType.RESPONSE_TRAILERS)
    name = rest[0]
    if name == "headers":
        return _header(headers, rest[1:])
    if name == "trailers":
        return _header(trailers, rest[1:])
    if len(rest) > 1:
        return None
    match name:
        case "code":
            return info.code
        case "code_details":
            return info.details
        case "flags":
            return 0
        case "size":
            return info.bytes_sent
        case "total_size":
            return info.bytes_sent + sum(m.byte_size() for m in (headers, trailers) if m is not None)
        case "grpc_status":
            status = _text(trailers, b"grpc-status") or _text(headers, b"grpc-status")
            if status is not None and status.isdigit():
                return int(status)
            return None if info.code is None else localreply.grpc_status(info.code)
    return None


def _peer(address: Callable[[StreamInfo], str]) -> _Resolver:
    def resolve(context: Context, rest: list[str]) -> PropertyValue | None:
        info = context.info
        if info is None or len(rest) != 1 or not address(info):
            return None
        if rest[0] == "address":
            return address(info)
        port = address(info).rpartition(":")[2]
        return int(port) if rest[0] == "port" and port.isdigit() else None

    return resolve


def _connection(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    if info is None or len(rest) != 1:
        return None
    facts: dict[str, PropertyValue] = {
        "id": info.connection_id,
        "mtls": False,
        "requested_server_name": info.requested_server_name,
    }
    return facts.get(rest[0])


def _xds(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    if info is None or len(rest) != 1:
        return None
    if rest[0] == "route_name":
        return info.route or None
    if rest[0] == "cluster_name":
        return info.cluster or None
    if rest[0] == "listener_direction":
        return 0
    return b"" if rest[0] == "filter_chain_name" else None


def _route_name(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    if info is None or rest:
        return None
    state = info.filter_state.get(b"route_name")
    return info.route or state if context.vm.higress else state


def _cluster_name(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    if info is None or rest:
        return None
    state = info.filter_state.get(b"cluster_name")
    return info.cluster or state if context.vm.higress else state


def _metadata(context: Context, rest: list[str]) -> PropertyValue | None:
    """Dynamic metadata, which no filter here writes: an empty message, or an empty map in it."""
    if context.info is None:
        return None
    if not rest:
        return b""
    return {} if rest in (["filter_metadata"], ["typed_filter_metadata"]) else None


def _plugin(attribute: str) -> _Resolver:
    def resolve(context: Context, rest: list[str]) -> PropertyValue | None:
        if rest:
            return None
        return str(getattr(context.root, attribute, ""))

    return resolve


def _connection_id(context: Context, rest: list[str]) -> PropertyValue | None:
    info = context.info
    return info.connection_id if info is not None and not rest else None


def _vm_id(context: Context, rest: list[str]) -> PropertyValue | None:
    return None if rest else context.vm.vm_id


_ROOTS: dict[str, _Resolver] = {
    "request": _request,
    "response": _response,
    "source": _peer(lambda info: info.source_address),
    "destination": _peer(lambda info: info.destination_address),
    "upstream": _peer(lambda info: info.upstream_address),
    "connection": _connection,
    "connection_id": _connection_id,
    "xds": _xds,
    "metadata": _metadata,
    "filter_state": lambda context, rest: None,
    "route_name": _route_name,
    "cluster_name": _cluster_name,
    "plugin_name": _plugin("name"),
    "plugin_root_id": _plugin("root_id"),
    "plugin_vm_id": _vm_id,
}

_OBJECTS = frozenset(("request", "response", "source", "destination", "upstream", "connection", "xds", "filter_state"))
"""What has attributes but is no value itself."""
