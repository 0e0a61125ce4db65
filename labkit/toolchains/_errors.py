"""What can go wrong between source and binary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import LabkitError, UsageError


class ToolchainMissing(LabkitError):
    """No usable compiler on this machine."""


class SourceError(UsageError):
    """What should be compiled is not there, or is no plugin's source."""


class BuildFailed(LabkitError):
    """The toolchain failed for a reason that is not in the source: no network, no disk, killed."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One complaint of a compiler; the file is relative to the source directory."""

    file: str
    line: int
    column: int | None
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" + (f":{self.column}" if self.column is not None else "")
        return f"{place}: {self.message}"


class CompileError(LabkitError):
    """The source does not compile.

    Attributes:
        diagnostics: What the compiler said and where; `details` has its own words.
    """

    def __init__(self, what: str, diagnostics: Sequence[Diagnostic], output: str) -> None:
        first = f": {diagnostics[0]}" if diagnostics else ""
        super().__init__(
            f"{what} does not compile{first}",
            hint="correct the lines below and build again",
            details=output,
        )
        self.diagnostics = tuple(diagnostics)
