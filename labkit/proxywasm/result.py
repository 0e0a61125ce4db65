"""What came of a request: the response, who sent it, and everything the plugins did."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from labkit.proxywasm.errors import PluginError, Trap
from labkit.proxywasm.messages import Headers, Request

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import LogLine


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

    def _repr_html_(self) -> str:
        who = {"plugin": "the plugin", "upstream": "the upstream", "host": "the host"}[self.sent_by]
        color = "#2a7d2a" if 200 <= self.status < 400 else "#b00"
        status = self.status or "reset"
        parts = [f"<div><b style='color:{color}'>{status}</b> from <b>{who}</b> {html.escape(self.details)}</div>"]
        parts.append(_headers_html(self.headers))
        if self.body:
            parts.append(f"<pre style='margin:4px 0'>{html.escape(_shortened(self.text))}</pre>")
        if self.trailers:
            parts.append(_headers_html(self.trailers))
        if self.forwarded is not None:
            inner = _headers_html(self.forwarded.headers)
            if self.forwarded.body:
                text = self.forwarded.body.decode(errors="replace")
                inner += f"<pre style='margin:4px 0'>{html.escape(_shortened(text))}</pre>"
            parts.append(f"<details><summary>what the upstream received</summary>{inner}</details>")
        if self.logs:
            lines = html.escape("\n".join(map(str, self.logs)))
            parts.append(f"<details open><summary>logs</summary><pre style='margin:4px 0'>{lines}</pre></details>")
        for problem in self.problems:
            text = str(problem) + (f"\n{problem.details}" if problem.details else "")
            parts.append(f"<pre style='color:#b00;margin:4px 0'>{html.escape(text)}</pre>")
        return "".join(parts)


def _headers_html(headers: Headers) -> str:
    rows = "".join(
        f"<tr><td style='text-align:left'><code>{html.escape(name)}</code></td>"
        f"<td style='text-align:left'><code>{html.escape(value)}</code></td></tr>"
        for name, value in headers
    )
    return f"<table>{rows}</table>"


def _shortened(text: str, length: int = 2000) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"
