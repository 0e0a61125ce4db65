"""Checks of what came of a request; a failure says what was expected, what came, and what the plugin logged."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from labkit.proxywasm import Headers, LogLine, Plugin, Result

Expected = str | bytes | re.Pattern[str]
"""Text or bytes to be equal to, or a pattern that must match all of it."""


def assert_replied(
    result: Result,
    status: int | None = None,
    body: Expected | None = None,
    headers: Mapping[str, Expected] | None = None,
) -> None:
    """The plugin itself answered, with this status, body and these headers (others may be there)."""
    __tracebackhide__ = True
    problems = [] if result.sent_by == "plugin" else [f"the answer came from the {result.sent_by}, not the plugin"]
    if status is not None and result.status != status:
        problems.append(f"status is {result.status}, not {status}")
    problems += _check_body(body, result.body)
    problems += _check_headers(headers or {}, (), result.headers)
    _raise(problems, result)


def assert_forwarded(
    result: Result,
    headers: Mapping[str, Expected] | None = None,
    absent: Collection[str] = (),
    body: Expected | None = None,
) -> None:
    """The request passed the plugin: the upstream received these headers, none of `absent`, and this body."""
    __tracebackhide__ = True
    forwarded = result.forwarded
    if forwarded is None:
        _raise(["the request did not reach the upstream"], result)
        return
    problems = [*_check_headers(headers or {}, absent, forwarded.headers), *_check_body(body, forwarded.body)]
    _raise(problems, result, [f"the upstream received: {name}: {value}" for name, value in forwarded.headers])


def assert_logged(source: Result | Plugin, pattern: str) -> None:
    """A line of what was logged matches the pattern somewhere; of a plugin, of what it logged outside streams."""
    __tracebackhide__ = True
    if any(re.search(pattern, line.message) for line in source.logs):
        return
    _raise([f"no line of the log matches {pattern!r}"], source if isinstance(source, Result) else None, _log(source))


def assert_clean(result: Result) -> None:
    """The plugin did nothing wrong: no trap, no bad pointer, no unknown cluster."""
    __tracebackhide__ = True
    _raise([f"{problem}\n{problem.details or ''}".rstrip() for problem in result.problems], result)


def _check_headers(expected: Mapping[str, Expected], absent: Iterable[str], headers: Headers) -> list[str]:
    problems = []
    for name, value in expected.items():
        found = headers.get_all(name)
        if not found:
            problems.append(f"header {name!r} is missing")
        elif not any(_equal(value, one.encode(errors="surrogateescape")) for one in found):
            problems.append(f"header {name!r} is {', '.join(map(repr, found))}, not {_shown(value)}")
    problems += [f"header {name!r} is there: {headers.get(name)!r}" for name in absent if headers.get(name) is not None]
    return problems


def _check_body(expected: Expected | None, body: bytes) -> list[str]:
    if expected is None or _equal(expected, body):
        return []
    return [f"body is {body.decode(errors='replace')!r}, not {_shown(expected)}"]


def _equal(expected: Expected, found: bytes) -> bool:
    if isinstance(expected, re.Pattern):
        return expected.fullmatch(found.decode(errors="replace")) is not None
    return found == (expected.encode() if isinstance(expected, str) else expected)


def _shown(expected: Expected) -> str:
    return f"/{expected.pattern}/" if isinstance(expected, re.Pattern) else repr(expected)


def _log(source: Result | Plugin) -> list[str]:
    lines: list[LogLine] = source.logs
    return [f"the plugin logged: {line}" for line in lines] or ["the plugin logged nothing"]


def _raise(problems: list[str], result: Result | None, more: list[str] | None = None) -> None:
    __tracebackhide__ = True
    if not problems:
        return
    lines = list(problems)
    if result is not None:
        lines.append(
            f"the client got: {result.status or 'a reset'} from the {result.sent_by} {result.details}".rstrip()
        )
        lines += [f"problem: {problem}" for problem in result.problems if str(problem) not in "\n".join(problems)]
        lines += more or []
        lines += [] if more and more[0].startswith("the plugin logged") else _log(result)
    else:
        lines += more or []
    raise AssertionError("\n".join(lines))
