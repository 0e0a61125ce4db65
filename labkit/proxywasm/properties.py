"""Properties as Envoy answers them, and the facts about a stream from which it does."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.proxywasm.abi import Status
from labkit.proxywasm.headers import HeaderMap, Pair, serialize

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import Context

PropertyValue = str | bytes | int | float | bool | Mapping[str, "PropertyValue"]
"""A property: text and bytes are passed as they are, numbers as 8 bytes little-endian, booleans as one byte."""


@dataclass
class StreamInfo:
    """Facts about one stream, shared by all plugins of its chain.

    Attributes:
        properties: Set by the caller; they win over everything else.
        filter_state: Set by plugins with `proxy_set_property`.
        route: The route's name; answered as Higress does as soon as it is known, as Envoy only with `flavour="envoy"`
            after routing.
        cluster: The cluster's name.
    """

    properties: dict[str, PropertyValue] = field(default_factory=dict)
    filter_state: dict[bytes, bytes] = field(default_factory=dict)
    route: str = ""
    cluster: str = ""
    request_headers: HeaderMap | None = None
    response_headers: HeaderMap | None = None
    response_trailers: HeaderMap | None = None
    upstream_hosts: list[Pair] = field(default_factory=list)
    override_host: str | None = None
    details: str = ""


def encode(value: PropertyValue) -> bytes:
    """A property's bytes."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    if isinstance(value, int):
        return struct.pack("<q" if value < 0 else "<Q", value)
    if isinstance(value, float):
        return struct.pack("<d", value)
    return serialize([(key.encode(), encode(item)) for key, item in value.items()])


def lookup(context: Context, path: bytes) -> bytes | Status:
    """The property at `path`, whose parts are separated by zero bytes."""
    parts = path.split(b"\0")
    if parts and not parts[-1]:
        parts.pop()
    if not parts:
        return Status.SERIALIZATION_FAILURE
    info = context.info
    if info is not None:
        value = info.properties.get(".".join(part.decode(errors="replace") for part in parts))
        if value is not None:
            return encode(value)
        state = info.filter_state.get(parts[0])
        if state is not None and len(parts) == 1:
            return state
    return Status.NOT_FOUND


def store(context: Context, path: bytes, value: bytes) -> Status:
    """Set a property of the stream."""
    info = context.info
    if info is None:
        return Status.NOT_FOUND
    info.filter_state[path] = value
    return Status.OK


Resolver = Callable[["Context"], "PropertyValue | None"]
