"""Time as plugins see it: the machine's, or a fake one that tests move."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a host takes the time from."""

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back."""

    def wait_until(self, monotonic_ns: int) -> None:
        """Let the time come; a fake clock jumps there."""


class SystemClock:
    """The machine's clock."""

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds since some point in the past."""
        return time.monotonic_ns()

    def wait_until(self, monotonic_ns: int) -> None:
        """Sleep."""
        time.sleep(max(0, monotonic_ns - time.monotonic_ns()) / 1e9)


class FakeClock:
    """A clock that stands still until it is moved; `Host.advance` moves it and fires what falls due meanwhile.

    A stream that can only go on once a timer fires makes it jump there, so that a call-out's time-out of 5 s takes no
    time in a test.

    Args:
        start: Seconds since 1970 at which it begins.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = int(start * 1e9)
        # Some runtimes take a monotonic clock that reads 0 for a broken one.
        self._elapsed = 1_000_000_000

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._start + self._elapsed - 1_000_000_000

    def monotonic_ns(self) -> int:
        """Nanoseconds since the clock was made, and one second more."""
        return self._elapsed

    def wait_until(self, monotonic_ns: int) -> None:
        """Jump; never back."""
        self._elapsed = max(self._elapsed, monotonic_ns)
