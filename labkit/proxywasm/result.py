"""What came of a request: the response, who sent it, and everything the plugins did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from labkit.proxywasm.contexts import LogLine
from labkit.proxywasm.errors import PluginError, Trap
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


@dataclass(frozen=True, slots=True)
class Result:
    """A response as the client receives it, with everything that is known about how it came to be.

    Attributes:
        status: HTTP status; 0 when the stream was reset before a response.
        sent_by: `plugin` when a plugin answered with a local response, `upstream`, or `host` when the host did so on
            behalf of a plugin that failed or broke a rule.
        forwarded: What the upstream received; None when nothing came that far.
        problems: What the plugins did wrong, oldest first.
        details: Envoy's response code details.
        reset: Why the stream was reset, if it was.
    """

    status: int
    headers: Headers
    body: bytes
    trailers: Headers | None
    sent_by: Literal["plugin", "upstream", "host"]
    forwarded: Request | None
    logs: list[LogLine] = field(default_factory=list)
    problems: list[PluginError] = field(default_factory=list)
    details: str = ""
    reset: str | None = None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def trap(self) -> Trap | None:
        """The trap that ended a plugin during this request."""
        return next((problem for problem in self.problems if isinstance(problem, Trap)), None)

    def raise_for_problems(self) -> Result:
        """Raise the first problem, if there is one; returns the result itself otherwise."""
        if self.problems:
            raise self.problems[0]
        return self
