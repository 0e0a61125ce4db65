"""What came of a suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that did not hold, or what kept the test from going on.

    Attributes:
        phase: Where: `plugin_init`, `request_headers`, `request_body[1]`, …
        what: What is wrong, in one line.
        expected: What was expected; None when nothing was to be compared.
        actual: What there was instead, line by line; without `expected`, more about what is wrong.
    """

    phase: str
    what: str
    expected: str | None = None
    actual: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"[{self.phase}] {self.what}"]
        if self.expected is None:
            lines += [f"  {line}" for line in self.actual]
        else:
            lines += [f"  - {line}" for line in self.expected.split("\n")]
            lines += [f"  + {line}" for line in self.actual] or ["  + (nothing)"]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class PhaseLog:
    """A line that the plugin logged.

    Attributes:
        phase: When.
        line: Level and text.
    """

    phase: str
    line: str


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of one test.

    Attributes:
        name: The test's name.
        failures: Empty when it passed.
        logs: What the plugin logged, oldest first.
        seconds: How long it took.
    """

    __test__ = False

    name: str
    failures: tuple[Failure, ...]
    logs: tuple[PhaseLog, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every expectation held."""
        return not self.failures

    def explain(self) -> str:
        """The failures, and what the plugin logged."""
        lines = [str(failure) for failure in self.failures]
        if self.logs:
            lines.append("the plugin logged:")
            lines += [f"  {log.phase}: {log.line}" for log in self.logs]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What came of a suite.

    Attributes:
        path: The suite's file.
        tests: One result for each test that ran.
    """

    path: Path
    tests: tuple[TestResult, ...]

    @property
    def passed(self) -> bool:
        """Whether all tests passed."""
        return all(test.passed for test in self.tests)

    def __str__(self) -> str:
        failed = [f"{test.name}\n{test.explain()}" for test in self.tests if not test.passed]
        return "\n\n".join([f"{self.path}: {len(failed)} of {len(self.tests)} tests failed", *failed])
