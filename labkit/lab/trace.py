"""The journal read as the article's ten steps: where one generation of a plugin stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from labkit.errors import UsageError
from labkit.events import STEPS, Event
from labkit.lab.chain import life_of


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One of the ten steps with its last event, or None while it has not happened."""

    n: int
    name: str
    event: Event | None


@dataclass(frozen=True, slots=True)
class Trace:
    """All ten steps of one generation of a plugin."""

    plugin: str | None
    generation: int | None
    steps: tuple[TracedStep, ...]

    def to_json(self) -> dict[str, Any]:
        """The document that `labkit trace --json` prints."""
        return asdict(self)


def trace(events: Sequence[Event], plugin: str | None = None) -> Trace:
    """Where the newest generation of `plugin` (or of the plugin of the last event) stands.

    A step that was tried again shows its last outcome, be it an error.

    Raises:
        UsageError: The journal knows no such plugin.
    """
    known = [event for event in events if event.plugin]
    if plugin is None:
        plugin = known[-1].plugin if known else None
    elif all(event.plugin != plugin for event in known):
        names = sorted({event.plugin for event in known if event.plugin})
        raise UsageError(
            f"the journal knows no plugin {plugin!r}",
            hint=f"it knows: {', '.join(names)}" if names else "no WasmPlugin was applied yet: labkit apply -f …",
        )
    # Not the highest: a plugin that was deleted and created again counts from 1 again.
    begun = [event.generation for event in known if event.plugin == plugin and event.step in {4, 5}]
    generation = begun[-1] if begun else None
    last = {event.step: event for event in life_of(events, plugin, generation)}
    return Trace(plugin, generation, tuple(TracedStep(n, name, last.get(n)) for n, name in STEPS.items()))
