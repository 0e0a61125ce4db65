"""The one exception hierarchy: everything that labkit raises on purpose is a `LabkitError`.

Each package derives its own exceptions from here (`labkit.oci.ImageNotFound`, `labkit.proxywasm.Trap`, …).
The command line prints `message` and `hint` and exits with `exit_code`; it never shows a traceback for one
of these.
"""

from __future__ import annotations


class LabkitError(Exception):
    """Something went wrong that the user can understand and act on.

    Args:
        message: What happened, in one line that names the thing it happened to.
        hint: What to do next; printed below the message.
        details: Lines worth seeing below both, such as a compiler's output.

    >>> raise LabkitError("port 8080 is taken", hint="choose another with --port")
    Traceback (most recent call last):
    ...
    labkit.errors.LabkitError: port 8080 is taken
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, details: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message


class UsageError(LabkitError):
    """What the user asked for cannot be meant: a bad flag, a path that does not exist, a malformed name."""

    exit_code = 2
