"""Whether what came of a phase is what was expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from labkit.testing.matching import BadMatcher, Matcher
from labkit.testing.parse import Suite
from labkit.testing.results import Failure
from labkit.testing.sandbox import PhaseResult


def check_logs(phase: str, expected: Any, logs: Sequence[str], suite: Suite) -> list[Failure]:
    """What an `Expectation` message says about a part of the plugin's life that has logs only."""
    return list(_check_strings(phase, "log", expected.log, [line.encode() for line in logs], suite))


def check_phase(phase: str, expected: Any, result: PhaseResult, logs: Sequence[str], suite: Suite) -> list[Failure]:
    """What an `Expectation` message says about a phase of the stream."""
    lines = [b"%s: %s" % pair for pair in result.headers]
    return [
        *_check_headers(phase, expected, result),
        *_check_strings(phase, "header", expected.headers, lines, suite),
        *_check_strings(phase, "body", expected.body, [result.body], suite),
        *_check_immediate(phase, expected, result),
        *check_logs(phase, expected, logs, suite),
    ]


def _check_headers(phase: str, expected: Any, result: PhaseResult) -> Iterator[Failure]:
    there = tuple(f"{_text(name)}: {_text(value)}" for name, value in result.headers)
    for header in expected.has_header:
        found = result.headers.get(header.key.encode())
        wanted = f"{header.key}: {_text(header.value)}"
        if not header.key:
            yield Failure(phase, "has_header without a key")
        elif found is None:
            yield Failure(phase, f"header {header.key!r} is missing", wanted, there)
        elif found != header.value:
            yield Failure(phase, f"header {header.key!r} has another value", wanted, (f"{header.key}: {_text(found)}",))
    for header in expected.no_header:
        found = result.headers.get(header.key.encode())
        if not header.key:
            yield Failure(phase, "no_header without a key")
        elif found is not None:
            yield Failure(
                phase, f"header {header.key!r} is there", f"no {header.key}", (f"{header.key}: {_text(found)}",)
            )


def _check_strings(
    phase: str, kind: str, expected: Sequence[Any], actual: list[bytes], suite: Suite
) -> Iterator[Failure]:
    for message in expected:
        try:
            matcher = Matcher.create(message, suite)
        except BadMatcher as error:
            yield Failure(phase, f"{kind}: {error}")
            continue
        if not matcher.matches(actual):
            what = "no " if matcher.invert else ""
            how = " that matches" if matcher.pattern else ""
            lines = tuple(line for item in actual for line in _text(item).split("\n")) if actual else ()
            title = f"expected {what}{kind}{how}" if kind != "body" else f"body is {'' if matcher.invert else 'not '}"
            if kind == "body":
                title += "what must not be" if matcher.invert else "as expected"
            yield Failure(phase, title, matcher.expected, lines)


def _check_immediate(phase: str, expected: Any, result: PhaseResult) -> Iterator[Failure]:
    replied = f"status {result.http_status}" if result.http_status else "no immediate response"
    wanted = expected.immediate
    if not expected.HasField("immediate"):
        if result.http_status:
            said = (f"{replied}: {_text(result.body)}",) if result.body else (replied,)
            yield Failure(phase, "the plugin sent an immediate response", "no immediate response", said)
        elif result.action not in (0, 2):
            yield Failure(phase, "the plugin stopped the stream", "Continue", (result.action_name,))
        return
    if result.http_status == 0:
        actual = replied if result.action in (0, 2) else f"{replied}; the plugin answered {result.action_name}"
        yield Failure(phase, "the plugin sent no immediate response", "an immediate response", (actual,))
    for name, label, found in (
        ("http_status", "HTTP status", result.http_status),
        ("grpc_status", "gRPC status", result.grpc_status),
        ("details", "details", result.details),
    ):
        value = getattr(wanted, name)
        if wanted.HasField(name) and value != found:
            yield Failure(phase, f"{label} of the immediate response", str(value), (str(found),))


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
