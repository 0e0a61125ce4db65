"""Why a plugin did not start, in its own words.

Envoy refuses a plugin with "Unable to create Wasm plugin NAME" and nothing more; what the plugin said about it is only
in Envoy's log.
"""

from __future__ import annotations

import re
from pathlib import Path

_COMPLAINT = re.compile(r"^\S+ (?:warning|error|critical) wasm wasm log[^:]*: (?P<words>.*)$", re.MULTILINE)
_CONTEXT = re.compile(r"^(?:\[[^\]]*\] ){1,3}")
_MOST_BYTES = 64 << 10
_MOST_LINES = 3
_MOST_CHARACTERS = 400


class EnvoyLog:
    """The end of Envoy's log file.

    Args:
        path: The file; None when the agent was not told where it is.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def size(self) -> int:
        """How long it is now, in bytes."""
        try:
            return self._path.stat().st_size if self._path else 0
        except OSError:
            return 0

    def complaints(self, start: int) -> str:
        """What plugins complained about since the log had `start` bytes; empty when they said nothing."""
        if not self._path:
            return ""
        try:
            with self._path.open("rb") as file:
                size = self.size()
                # A log that became shorter was rotated.
                file.seek(max(start if start <= size else 0, size - _MOST_BYTES))
                text = file.read(_MOST_BYTES).decode(errors="replace")
        except OSError:
            return ""
        words = [_CONTEXT.sub("", match["words"]).strip() for match in _COMPLAINT.finditer(text)]
        # Each virtual machine that Envoy tries says the same.
        return "; ".join(list(dict.fromkeys(words))[-_MOST_LINES:])[:_MOST_CHARACTERS]
