"""String matchers: exact, a regular expression that matches all of it, a file's content; each inverted on request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from labkit.testing.parse import Suite


class BadMatcher(ValueError):
    """The matcher itself is wrong: a regular expression that is none, a file that is not there."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One expectation about a list of strings.

    Attributes:
        expected: What to look for.
        pattern: Set when that is a regular expression.
        invert: Whether it must not be there.
    """

    expected: str
    exact: bytes | None
    pattern: re.Pattern[str] | None
    invert: bool

    @classmethod
    def create(cls, message: Any, suite: Suite) -> Matcher:
        """The matcher that a `StringMatcher` message describes.

        Raises:
            BadMatcher: It describes none.
        """
        kind = message.WhichOneof("matcher")
        if kind is None:
            raise BadMatcher("a string matcher needs one of exact, regex, file")
        if kind == "regex":
            return cls(message.regex, None, compile_re2(message.regex), message.invert)
        exact = read_near(suite, message.file) if kind == "file" else bytes(message.exact)
        return cls(exact.decode(errors="replace"), exact, None, message.invert)

    def matches(self, contents: list[bytes]) -> bool:
        """Whether the expectation holds for these strings."""
        return any(map(self._matches_one, contents)) is not self.invert

    def _matches_one(self, content: bytes) -> bool:
        if self.pattern is None:
            return content == self.exact
        return self.pattern.fullmatch(content.decode(errors="surrogateescape")) is not None

    def __str__(self) -> str:
        kind = "regex" if self.pattern else "exact"
        return f"{'absence' if self.invert else 'presence'} of {kind} {self.expected!r}"


def read_near(suite: Suite, path: str) -> bytes:
    """A file that the suite names.

    Raises:
        BadMatcher: It cannot be read.
    """
    try:
        return suite.near(path).read_bytes()
    except (OSError, ValueError) as error:
        raise BadMatcher(f"file {path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_TOKENS = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|\Z)|\[:(?P<class>\w+):\]|\\z|(?P<foreign>\(\?[=!<>]|\\[1-9])|\\.", re.DOTALL
)


def compile_re2(pattern: str) -> re.Pattern[str]:
    """A pattern in RE2's syntax, as the original tester has it, for Python's engine.

    Raises:
        BadMatcher: It is none, or uses what RE2 does not have.
    """

    def translate(token: re.Match[str]) -> str:
        if token["quoted"] is not None:
            return re.escape(token["quoted"])
        if token["class"] is not None:
            if token["class"] not in _CLASSES:
                raise BadMatcher(f"bad regex {pattern!r}: no such class: {token[0]}")
            return _CLASSES[token["class"]]
        if token["foreign"] is not None and not re.match(r"\(\?<\w+>", pattern[token.start() :]):
            raise BadMatcher(f"bad regex {pattern!r}: RE2 has no look-around and no back-references")
        if token[0] == r"\z":
            return r"\Z"
        return "(?P<" if token["foreign"] else token[0]

    try:
        return re.compile(_TOKENS.sub(translate, pattern), re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadMatcher(f"bad regex {pattern!r}: {error}") from None
