"""The chain of digests: the bytes that the compiler wrote are the bytes that Envoy runs.

Every step of the journal names the digest of what it handed on and of what it received. If any two neighbours
disagree, some step used a stale or a foreign image, and nothing that the gateway answers says anything about the
local build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit import wasm
from labkit.events import STEPS, Event
from labkit.lab.errors import ChainBroken
from labkit.oci import digest_of


@dataclass(frozen=True, slots=True)
class Link:
    """One link: what one step handed on, under the name of what it is."""

    what: str
    giver: int
    receiver: int
    digest: str


def steps_of(events: Sequence[Event], plugin: str, generation: int) -> list[Event]:
    """The latest successful event of each of the ten steps for one generation of a plugin.

    Steps 1 to 3 know no plugin yet: the last ones before step 4 count. Steps that have not happened are left out.
    """
    found = {event.step: event for event in life_of(events, plugin, generation) if not event.error}
    return [found[number] for number in sorted(found)]


def life_of(events: Sequence[Event], plugin: str | None, generation: int | None) -> list[Event]:
    """The events of the ten steps that belong to one generation of a plugin, successful or not.

    Compiling and pushing know no plugin yet: what happened before the generation began belongs to it.
    """
    start = _beginning(events, plugin, generation)
    belong = []
    for place, event in enumerate(events):
        begun = start is not None and place >= start
        ours = event.plugin == plugin and event.generation == generation
        if (1 <= event.step <= 3 and not begun) or (event.step >= 4 and ours and begun):
            belong.append(event)
    return belong


def _beginning(events: Sequence[Event], plugin: str | None, generation: int | None) -> int | None:
    """The place of the event with which one generation of a plugin began: the last time, if it was made anew.

    A plugin that was deleted and created again counts its generations from 1 again. Step 4 is where a generation
    begins; with an API server that keeps no journal it is the first step 5.
    """
    place: int | None = None
    current: int | None = None
    for number, event in enumerate(events):
        if event.plugin != plugin or event.step not in {4, 5}:
            continue
        begins = event.step == 4 or event.generation != current
        current = event.generation
        if begins and event.generation == generation:
            place = number
    return place


def check(steps: Sequence[Event], module: Path) -> list[Link]:
    """Check the chain over all ten steps and return its links.

    Args:
        steps: One event for each of the ten steps.
        module: The file that the compiler wrote; hashed again here.

    Raises:
        ChainBroken: A step is missing, or two steps disagree; says which and on what.
    """
    by_number = {event.step: event for event in steps}
    if missing := [f"{number} ({name})" for number, name in STEPS.items() if number not in by_number]:
        raise ChainBroken(f"no event for step {', '.join(missing)}", hint="see: labkit trace")
    compiled = module.read_bytes()
    links = [
        _link("module", 1, digest_of(compiled), 1, by_number[1].digest),
        _link("module", 1, by_number[1].digest, 2, by_number[2].data.get("module")),
        _link("manifest", 2, by_number[2].digest, 3, by_number[3].digest),
        _link("manifest", 3, by_number[3].digest, 7, by_number[7].digest),
        _link("layer", 2, by_number[2].data.get("layer"), 7, by_number[7].data.get("layer")),
        _link("layer", 7, by_number[7].data.get("layer"), 8, by_number[8].data.get("layer")),
        _link("uncompressed layer", 2, by_number[2].data.get("diff_id"), 8, by_number[8].data.get("diff_id")),
        _link("module", 1, by_number[1].digest, 8, by_number[8].digest),
        _link("module", 8, by_number[8].digest, 9, by_number[9].data.get("module")),
        # The agent fits the module to this Envoy; doing the same to the compiler's output must give its file.
        _link("fitted module", 1, wasm.fit(compiled).digest, 9, by_number[9].digest),
        _link("fitted module", 9, by_number[9].digest, 10, by_number[10].digest),
    ]
    running = Path(str(by_number[10].data.get("path")))
    links.append(_link("file Envoy runs", 10, by_number[10].digest, 10, digest_of(running.read_bytes())))
    return links


def _link(what: str, giver: int, given: object, receiver: int, received: object) -> Link:
    if not given or given != received:
        raise ChainBroken(
            f"the {what} of step {giver} ({STEPS[giver]}) is {given}, "
            f"but step {receiver} ({STEPS[receiver]}) had {received}",
            hint="the gateway does not run this build; push it again, or see: labkit trace",
        )
    return Link(what, giver, receiver, str(given))
