"""What can go wrong with the lab as a whole."""

from __future__ import annotations

from labkit.errors import LabkitError


class PortTaken(LabkitError):
    """A port that the user asked for is in use by somebody else."""


class PartFailed(LabkitError):
    """A part of the lab did not become healthy; `details` holds the end of its log."""


class LabNotRunning(LabkitError):
    """The command needs a running lab and there is none."""

    def __init__(self, message: str = "the lab is not running") -> None:
        super().__init__(message, hint="start it with: labkit up")


class ChainBroken(LabkitError):
    """The digests do not tie the compiler's output to the file Envoy runs: some step used other bytes."""


class DemoFailed(LabkitError):
    """The demo ran, but the gateway did not answer as the article says."""
