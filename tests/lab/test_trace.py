"""The journal read as ten steps: which events belong to the plugin as it is now."""

from __future__ import annotations

from labkit.events import STEPS, Event
from labkit.lab import steps_of
from labkit.lab.trace import trace

PLUGIN = "higress-system/mock"


def rollout(name: str, *, generation: int = 1, begin: int = 1, skip: tuple[int, ...] = ()) -> list[Event]:
    """The events of one way from compile to load, all with the digest `name`."""
    return [
        Event(
            number,
            STEPS[number],
            part="any",
            at=0.0,
            plugin=PLUGIN if number >= 4 else None,
            generation=generation if number >= 4 else None,
            digest=name,
        )
        for number in STEPS
        if number >= begin and number not in skip
    ]


def digests(events: list[Event]) -> list[str | None]:
    return [event.digest for event in events]


def traced(events: list[Event]) -> list[str | None]:
    return [step.event.digest if step.event else None for step in trace(events).steps]


def test_a_plugin_created_anew_has_the_steps_of_its_new_life():
    events = [*rollout("old"), *rollout("changed", generation=2, begin=4), *rollout("new")]
    assert digests(steps_of(events, PLUGIN, 1)) == ["new"] * 10
    assert trace(events).generation == 1
    assert traced(events) == ["new"] * 10


def test_steps_of_an_earlier_life_do_not_stand_in_for_those_still_missing():
    events = [*rollout("old"), *rollout("new", skip=(10,))]
    assert [event.step for event in steps_of(events, PLUGIN, 1)] == list(range(1, 10))
    assert traced(events) == ["new"] * 9 + [None]


def test_a_changed_config_keeps_the_build_it_was_made_with():
    events = [*rollout("built"), *rollout("changed", generation=2, begin=4)]
    assert digests(steps_of(events, PLUGIN, 2)) == ["built"] * 3 + ["changed"] * 7
    assert traced(events) == ["built"] * 3 + ["changed"] * 7


def test_what_is_built_later_does_not_belong_to_a_plugin_that_runs():
    events = [*rollout("running"), *rollout("later")[:3]]
    assert traced(events) == ["running"] * 10


def test_a_restarted_controller_begins_no_new_life():
    events = [*rollout("first"), *rollout("later")[:3], *rollout("again", begin=5, skip=(6, 7, 8, 9, 10))]
    assert traced(events) == ["first"] * 4 + ["again"] + ["first"] * 5


def test_without_an_api_server_that_writes_the_journal_step_five_is_the_beginning():
    events = [
        *rollout("first", skip=(4,)),
        *rollout("changed", generation=2, begin=5),
        *rollout("later")[:3],
    ]
    assert traced(events) == ["first"] * 3 + [None] + ["changed"] * 6


def test_before_any_plugin_the_builds_are_shown():
    assert traced(rollout("built")[:3]) == ["built"] * 3 + [None] * 7
