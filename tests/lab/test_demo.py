"""The article's demo on the real parts."""

from __future__ import annotations

import httpx
import pytest

from labkit.events import STEPS
from labkit.lab import ChainBroken, Lab, check, demo, steps_of

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shown(lab: Lab) -> demo.Demo:
    """One run of the demo."""
    return demo.run(lab)


def get(url: str, **parameters: str):
    return httpx.get(url, params=parameters, trust_env=False)


def test_four_requests_are_answered_by_four_rules(shown):
    assert [(reply.path, reply.host, reply.status, reply.body, reply.rule) for reply in shown.replies] == [
        ("/foo", "localhost", 200, "hello foo", "ingress default/foo"),
        ("/bar", "localhost", 200, "hello bar", "ingress default/bar"),
        ("/", "www.example.com", 200, "hello world", "domain *.example.com"),
        ("/", "www.abc.com", 200, "hello higress", "default config"),
    ]


def test_all_ten_steps_happened_in_order(shown):
    assert [(step.n, step.name) for step in shown.steps] == list(STEPS.items())
    assert [step.at for step in shown.steps] == sorted(step.at for step in shown.steps)
    assert all(step.seconds >= 0 for step in shown.steps)


def test_no_request_fails_while_a_rule_changes(shown):
    assert shown.update.requests > 0
    assert shown.update.failed == 0


def test_the_document_has_what_a_program_needs(shown):
    document = shown.to_json()
    assert {"replies", "steps", "update", "seconds"} <= document.keys()
    assert document["replies"][0].keys() == {"host", "path", "status", "body", "rule"}
    assert document["steps"][0].keys() == {"n", "name", "part", "at", "seconds"}
    assert document["update"].keys() == {"seconds", "requests", "failed"}


def test_envoys_statistics_count_the_replies_and_its_dump_names_the_module(shown, lab):
    admin = lab.status().gateway["admin"]

    def stat(name: str) -> int:
        found = get(f"{admin}/stats", filter=name, format="json").json()["stats"]
        # Asking for statistics is itself a request, to the admin interface.
        return sum(one.get("value", 0) for one in found if not one["name"].startswith("http.admin."))

    before = stat(r"^http\..*downstream_rq_2xx$")
    assert demo.ask(shown.gateway, "localhost", "/foo").headers["server"] == "envoy"
    assert stat(r"^http\..*downstream_rq_2xx$") == before + 1
    assert stat(r"wasm\..*active$") > 0
    running = lab.journal.read()
    loaded = steps_of(running, "higress-system/mock", max(event.generation or 0 for event in running))[-1]
    assert loaded.step == 10
    assert loaded.data["path"] in get(f"{admin}/config_dump", resource="ecds_filters").text


def test_a_second_run_takes_all_ten_steps_again(shown, lab):
    again = demo.run(lab)
    assert again.steps[0].at > shown.steps[9].at
    assert [reply.body for reply in again.replies] == [reply.body for reply in shown.replies]


def test_another_build_than_the_one_that_runs_breaks_the_chain(shown, lab, tmp_path):
    running = lab.layout.cache / "plugin.wasm"
    events = [event for event in lab.journal.read() if event.step]
    generation = max(event.generation or 0 for event in events)
    steps = steps_of(events, "higress-system/mock", generation)
    other = tmp_path / "plugin.wasm"
    other.write_bytes(running.read_bytes() + b"\x00\x02\x01x")
    with pytest.raises(ChainBroken, match="the module of step 1"):
        check(steps, other)


@pytest.mark.parametrize("missing", STEPS)
def test_a_step_that_did_not_happen_breaks_the_chain(shown, lab, missing):
    events = lab.journal.read()
    steps = steps_of(events, "higress-system/mock", max(event.generation or 0 for event in events))
    with pytest.raises(ChainBroken, match=f"step {missing} "):
        check([step for step in steps if step.step != missing], lab.layout.cache / "plugin.wasm")
