"""Header maps as Envoy keeps them, and the byte format in which the ABI passes them.

A map is a list of (name, value) in bytes, in order and with repeats, names in lower case, pseudo-headers first. The
headers that Envoy stores "inline" can occur once only: adding another joins the values with a comma. `host` is another
name for `:authority` in request headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Final

Pair = tuple[bytes, bytes]
HeaderInput = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]]
"""What callers may pass as headers: a mapping, or pairs when order and repeats matter; text is encoded as UTF-8."""

MAX_PAIRS: Final = 1024
"""Pairs in one serialized map from a plugin, as in Envoy."""

MAX_BYTES: Final = 1 << 20
"""Bytes of one serialized map from a plugin, as in Envoy."""


class MapKind(Enum):
    """Which headers are stored inline depends on what the map is."""

    REQUEST = "request"
    RESPONSE = "response"
    REQUEST_TRAILERS = "request trailers"
    RESPONSE_TRAILERS = "response trailers"


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


_BOTH = _names(
    """connection content-type x-envoy-decorator-operation keep-alive proxy-connection proxy-status x-request-id
    transfer-encoding upgrade via content-length x-envoy-attempt-count"""
)

_INLINE: Final = {
    MapKind.REQUEST: _BOTH
    | _names(
        """:authority :method :path :protocol :scheme x-client-trace-id x-envoy-downstream-service-cluster
        x-envoy-downstream-service-node x-envoy-external-address x-envoy-force-trace
        x-envoy-hedge-on-per-try-timeout x-envoy-internal x-envoy-ip-tags x-envoy-retry-on x-envoy-retry-grpc-on
        x-envoy-retriable-status-codes x-envoy-retriable-header-names x-envoy-is-timeout-retry
        x-envoy-original-path x-envoy-original-url x-envoy-upstream-alt-stat-name
        x-envoy-upstream-rq-timeout-alt-response expect x-forwarded-client-cert x-forwarded-for x-forwarded-host
        x-forwarded-proto grpc-timeout te user-agent x-envoy-expected-rq-timeout-ms x-envoy-max-retries
        x-envoy-upstream-rq-timeout-ms x-envoy-upstream-rq-per-try-timeout-ms x-envoy-upstream-stream-duration-ms
        x-forwarded-port accept accept-encoding access-control-request-headers access-control-request-method
        access-control-request-private-network authentication authorization cache-control cdn-loop
        content-encoding grpc-accept-encoding origin x-ot-span-context referer pragma if-match if-none-match
        if-modified-since if-unmodified-since if-range"""
    ),
    MapKind.RESPONSE: _BOTH
    | _names(
        """:status date x-envoy-degraded x-envoy-immediate-health-check-fail x-envoy-ratelimited
        x-envoy-upstream-canary x-envoy-upstream-healthchecked-cluster location server
        x-envoy-upstream-service-time grpc-status grpc-message access-control-allow-credentials
        access-control-allow-headers access-control-allow-methods access-control-allow-origin
        access-control-expose-headers access-control-max-age access-control-allow-private-network cache-control
        content-encoding etag vary last-modified age expires"""
    ),
    MapKind.REQUEST_TRAILERS: frozenset(),
    MapKind.RESPONSE_TRAILERS: _names("grpc-status grpc-message"),
}


def to_bytes(value: str | bytes) -> bytes:
    """Text as UTF-8, with the bytes that were none before `Headers` made text of them; bytes as they are."""
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


def to_pairs(headers: HeaderInput | None) -> list[Pair]:
    """The (name, value) pairs of whatever a caller passed, names in lower case."""
    if not headers:
        return []
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(to_bytes(name).lower(), to_bytes(value)) for name, value in items]


class HeaderMap:
    """One header map. `pairs` is the state; read it freely, change it through the methods."""

    __slots__ = ("_inline", "kind", "pairs")

    def __init__(self, pairs: Iterable[Pair] = (), kind: MapKind = MapKind.REQUEST) -> None:
        self.kind = kind
        self._inline = _INLINE[kind]
        self.pairs: list[Pair] = []
        for name, value in pairs:
            self.add(name, value)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __repr__(self) -> str:
        return f"HeaderMap({self.pairs!r}, {self.kind})"

    def _key(self, name: bytes) -> bytes:
        name = name.lower()
        return b":authority" if name == b"host" and self.kind is MapKind.REQUEST else name

    def get(self, name: bytes) -> bytes | None:
        """The first value of `name`."""
        name = self._key(name)
        for key, value in self.pairs:
            if key == name:
                return value
        return None

    def add(self, name: bytes, value: bytes) -> None:
        """Append; an inline header that is there already gets the value joined to its own."""
        name = self._key(name)
        pairs = self.pairs
        if name in self._inline:
            for index, (key, old) in enumerate(pairs):
                if key == name:
                    pairs[index] = (name, b",".join((old, value)) if old and value else old or value)
                    return
        if name.startswith(b":"):
            index = 0
            while index < len(pairs) and pairs[index][0].startswith(b":"):
                index += 1
            pairs.insert(index, (name, value))
        else:
            pairs.append((name, value))

    def remove(self, name: bytes) -> None:
        """Remove every occurrence."""
        name = self._key(name)
        self.pairs = [pair for pair in self.pairs if pair[0] != name]

    def replace(self, name: bytes, value: bytes) -> None:
        """Remove every occurrence and append one."""
        self.remove(name)
        self.add(name, value)

    def set_pairs(self, pairs: Iterable[Pair]) -> None:
        """Replace the whole map."""
        self.pairs = []
        for name, value in pairs:
            self.add(name, value)

    def byte_size(self) -> int:
        """Bytes of all names and values together, which is what `proxy_get_header_map_size` answers in Envoy."""
        return sum(len(name) + len(value) for name, value in self.pairs)

    def copy(self) -> HeaderMap:
        """An independent copy."""
        clone = HeaderMap((), self.kind)
        clone.pairs = self.pairs.copy()
        return clone


def serialize(pairs: list[Pair]) -> bytes:
    """The ABI's format: count, the sizes of every name and value, then the strings, each followed by a zero byte."""
    sizes = [len(pairs)]
    parts: list[bytes] = []
    for name, value in pairs:
        sizes += (len(name), len(value))
        parts += (name, value)
    parts.append(b"")
    return struct.pack(f"<{len(sizes)}I", *sizes) + b"\0".join(parts)


class MalformedPairs(ValueError):
    """Bytes that are no serialized map."""


def parse(data: bytes) -> list[Pair]:
    """The inverse of `serialize`; as strict as Envoy, which refuses extra bytes and missing zero bytes.

    Raises:
        MalformedPairs: Says what is wrong. Envoy takes such a map for an empty one.
    """
    if len(data) > MAX_BYTES:
        raise MalformedPairs(f"{len(data)} bytes, more than {MAX_BYTES}")
    if len(data) < 4:
        raise MalformedPairs(f"{len(data)} bytes, too short for the number of pairs")
    (count,) = struct.unpack_from("<I", data)
    if count > MAX_PAIRS:
        raise MalformedPairs(f"{count} pairs, more than {MAX_PAIRS}")
    position = 4 + 8 * count
    if position > len(data):
        raise MalformedPairs(f"{count} pairs announced in {len(data)} bytes")
    sizes = struct.unpack_from(f"<{2 * count}I", data, 4)
    strings = []
    for size in sizes:
        end = position + size
        if end >= len(data):
            raise MalformedPairs(f"a string of {size} bytes reaches beyond the end")
        if data[end]:
            raise MalformedPairs(f"no zero byte after the string at {position}")
        strings.append(data[position:end])
        position = end + 1
    if position != len(data):
        raise MalformedPairs(f"{len(data) - position} bytes too many")
    return list(zip(strings[::2], strings[1::2], strict=True))
