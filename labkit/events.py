"""The journal of the ten steps: what really happened, when, where, and to which bytes.

The article explains a plugin's way into the gateway in ten steps. Each part of the lab appends one line to the
journal at the moment its step really happened; everything that shows the steps (`labkit trace`, the widgets, the
plots) only reads it. The digests in the events form a chain from the compiler's output to the file Envoy runs;
`labkit.lab.chain` checks it.

    >>> journal = Journal(tmp_path / "journal.jsonl")
    >>> journal.record(1, part="toolchain", digest="sha256:…", seconds=1.9, path="plugin.wasm")
    >>> [event.name for event in journal.read()]
    ['compile']
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

STEPS: Mapping[int, str] = MappingProxyType(
    {
        1: "compile",
        2: "build image",
        3: "push image",
        4: "create WasmPlugin",
        5: "controller sees WasmPlugin",
        6: "agent gets image address",
        7: "agent pulls image",
        8: "agent extracts wasm file",
        9: "Envoy gets local path",
        10: "Envoy loads wasm file",
    }
)
"""The ten steps of the article, by number."""

LIFECYCLE = 0
"""The step number of events that are about a part rather than a plugin: started, ready, crashed, restarted."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal.

    Attributes:
        step: 1 to 10, or `LIFECYCLE`.
        name: The step's name (`STEPS`), or what happened to the part.
        part: Who wrote it: toolchain, oci, registry, kube, controlplane, agent, gateway, supervisor.
        at: Unix time in seconds at which the step was complete.
        seconds: How long the step took, when its part measured it.
        plugin: `namespace/name` of the WasmPlugin; None before there is one (steps 1 to 3).
        generation: `metadata.generation` of the WasmPlugin the step is about.
        digest: `sha256:…` of the bytes this step handed on (see `data` for the ones it received).
        error: Why the step failed; None when it succeeded.
        data: The real payload: paths, image references, config, Envoy's own answer. JSON values only.
    """

    step: int
    name: str
    part: str
    at: float
    seconds: float | None = None
    plugin: str | None = None
    generation: int | None = None
    digest: str | None = None
    error: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """An append-only file of `Event`s that several processes may write to at once.

    One event is one line and one `write` to a file opened with O_APPEND, so lines never interleave.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def record(
        self,
        step: int,
        *,
        part: str,
        name: str | None = None,
        at: float | None = None,
        seconds: float | None = None,
        plugin: str | None = None,
        generation: int | None = None,
        digest: str | None = None,
        error: str | None = None,
        **data: Any,
    ) -> Event:
        """Append one event and return it; `at` defaults to now, `name` to the step's own."""
        event = Event(
            step=step,
            name=name or STEPS[step],
            part=part,
            at=time.time() if at is None else at,
            seconds=seconds,
            plugin=plugin,
            generation=generation,
            digest=digest,
            error=error,
            data=data,
        )
        line = json.dumps(asdict(event), separators=(",", ":"), ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        return event

    def read(self) -> list[Event]:
        """All events so far, oldest first. A line still being written is left out."""
        return list(self._parse())

    def _parse(self) -> Iterator[Event]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                yield Event(**json.loads(line))
