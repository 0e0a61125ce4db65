"""Requests and responses as upstreams, call-out handlers and callers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labkit.proxywasm.headers import HeaderMap


class Headers(Sequence[tuple[str, str]]):
    """Headers as text: pairs in order, and by name in any case."""

    def __init__(self, source: HeaderMap | Sequence[tuple[str, str]] | None = None) -> None:
        self._pairs = [
            (name if isinstance(name, str) else name.decode("latin-1"), _text(value)) for name, value in source or ()
        ]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            value = self.get(key)
            if value is None:
                raise KeyError(key)
            return value
        return self._pairs[key]

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None if isinstance(key, str) else key in self._pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (Headers, list, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._pairs))

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name`."""
        name = name.lower()
        return next((value for key, value in self._pairs if key == name), default)

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`."""
        name = name.lower()
        return [value for key, value in self._pairs if key == name]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as an upstream, or a call-out's handler, receives it.

    Attributes:
        headers: All of them, pseudo-headers first.
        cluster: The upstream cluster it is sent to.
        timeout: Seconds the sender waits; None for ever.
    """

    headers: Headers
    body: bytes = b""
    trailers: Headers | None = None
    cluster: str = ""
    timeout: float | None = None

    @property
    def method(self) -> str:
        """`:method`."""
        return self.headers.get(":method") or ""

    @property
    def path(self) -> str:
        """`:path`, with the query."""
        return self.headers.get(":path") or ""

    @property
    def authority(self) -> str:
        """`:authority`."""
        return self.headers.get(":authority") or ""

    @property
    def url(self) -> str:
        """Scheme, authority and path together."""
        return f"{self.headers.get(':scheme') or 'http'}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Response:
    """A response as an upstream, or a call-out's handler, answers it."""

    status: int = 200
    headers: Headers | Sequence[tuple[str, str]] | dict[str, str] = ()
    body: bytes | str = b""
    trailers: Sequence[tuple[str, str]] | None = None
