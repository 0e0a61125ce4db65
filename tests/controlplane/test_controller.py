"""From resources to statuses, with a journal but without any server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.wrappers_pb2 import StringValue

from labkit.controlplane import Answer, Controller
from labkit.controlplane.controller import KINDS
from labkit.controlplane.snapshot import CLUSTER, EXTENSION, LISTENER, Snapshot
from labkit.controlplane.status import Condition, Reason, condition_from_answer, status_of
from labkit.events import Journal


def plugin(name: str = "mock", generation: int = 1, namespace: str = "higress-system", **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "generation": generation, "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": {"url": "registry.lab/mock:1", **spec}}


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller("higress-system", 8080, Journal(tmp_path / "journal.jsonl"))
    for kind in KINDS:
        assert not made.is_synced
        made.replace(kind, [])
    assert made.is_synced
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def give(controller: Controller, *resources: dict[str, Any]) -> Snapshot:
    for resource in resources:
        controller.change("WasmPlugin", "MODIFIED", resource)
    return controller.snapshot()


def ready(controller: Controller, name: str = "mock") -> Condition:
    return next(c[0] for resource, c in controller.statuses() if resource["metadata"]["name"] == name)


def wasm(snapshot: Snapshot, name: str = "mock") -> Wasm:
    body = snapshot.resources(EXTENSION)[f"higress-system.{name}"].body
    found = Wasm()
    TypedExtensionConfig.FromString(body.value).typed_config.Unpack(found)
    return found


def filters(snapshot: Snapshot) -> list[str]:
    listener = Listener.FromString(snapshot.resources(LISTENER)["http"].body.value)
    manager = HttpConnectionManager()
    listener.filter_chains[0].filters[0].typed_config.Unpack(manager)
    return [one.name for one in manager.http_filters]


def test_chain_is_bridge_then_plugins_in_order_then_router(controller: Controller) -> None:
    snapshot = give(
        controller,
        plugin("late", priority=100),
        plugin("stats", phase="STATS"),
        plugin("low", phase="AUTHN", priority=1),
        plugin("high", phase="AUTHN", priority=2),
        plugin("nothing", defaultConfigDisable=True),
    )
    assert filters(snapshot) == [
        "labkit.route-bridge",
        *(f"higress-system.{name}" for name in ("high", "low", "stats", "late")),
        "envoy.filters.http.router",
    ]


def test_resource_says_all_the_agent_needs(controller: Controller) -> None:
    config = {"content": "héllo", "n": 1}
    env = [{"name": "A", "value": "1"}, {"name": "HOME", "valueFrom": "HOST"}]
    found = wasm(give(controller, plugin(pluginName="root", defaultConfig=config, vmConfig={"env": env}))).config
    text = StringValue()
    found.configuration.Unpack(text)
    assert json.loads(text.value) == config
    assert (found.root_id, found.vm_config.code.remote.http_uri.uri) == ("root", "oci://registry.lab/mock:1")
    variables = found.vm_config.environment_variables
    assert list(variables.host_env_keys) == ["HOME"]
    assert variables.key_values["A"] == "1"
    assert variables.key_values["LABKIT_AGENT_PLUGIN"] == "higress-system/mock"
    assert variables.key_values["LABKIT_AGENT_GENERATION"] == "1"


def test_status_follows_the_gateways_answer_to_this_version_only(controller: Controller) -> None:
    version = give(controller, plugin()).resources(EXTENSION)["higress-system.mock"].version
    assert (ready(controller).status, ready(controller).reason) == ("Unknown", Reason.PENDING)
    controller.answered(Answer(EXTENSION, {"higress-system.mock": version}))
    assert (ready(controller).status, ready(controller).reason) == ("True", Reason.LOADED)
    give(controller, plugin(generation=2, defaultConfig={"a": 1}))
    assert ready(controller).status == "Unknown"
    controller.answered(Answer(EXTENSION, {"higress-system.mock": version}))
    assert ready(controller).status == "Unknown"


def test_invalid_spec_keeps_the_last_good_one_and_the_others(controller: Controller, journal: Journal) -> None:
    before = give(controller, plugin(defaultConfig={"a": 1}), plugin("other"))
    after = give(controller, plugin(generation=2, matchRules=[{"config": {}}]))
    assert after.resources(EXTENSION) == before.resources(EXTENSION)
    condition = ready(controller)
    assert condition.reason == Reason.INVALID_SPEC
    assert condition.message.startswith("spec.matchRules[0]: ")
    assert condition.message.endswith("generation 1 keeps serving")
    assert ready(controller, "other").reason == Reason.PENDING
    refused = journal.read()[-1]
    assert (refused.step, refused.generation) == (5, 2)
    assert "spec.matchRules[0]" in (refused.error or "")


def test_each_generation_is_recorded_once(controller: Controller, journal: Journal) -> None:
    give(controller, plugin())
    give(controller, plugin())
    give(controller, plugin(generation=2, matchRules=[{"ingress": ["default/foo"]}]))
    assert [(event.generation, event.data["rules"]) for event in journal.read()] == [(1, 0), (2, 1)]


def test_plugin_elsewhere_is_not_installed_and_told_where_to_go(controller: Controller) -> None:
    snapshot = give(controller, plugin(namespace="default"))
    assert snapshot.resources(EXTENSION) == {}
    assert ready(controller).reason == Reason.WRONG_NAMESPACE
    assert "higress-system" in ready(controller).message


def test_pull_secret_is_read_and_its_absence_told(controller: Controller) -> None:
    give(controller, plugin(imagePullSecret="registry"))
    assert "there is no Secret higress-system/registry" in ready(controller).message
    text = json.dumps({"auths": {"registry.lab": {"auth": "eDp5"}}})
    data = {".dockerconfigjson": base64.b64encode(text.encode()).decode()}
    secret = {"metadata": {"namespace": "higress-system", "name": "registry"}, "data": data}
    controller.change("Secret", "ADDED", secret)
    variables = wasm(controller.snapshot()).config.vm_config.environment_variables.key_values
    assert variables["LABKIT_AGENT_PULL_SECRET"] == text
    secret["data"] = {".dockerconfigjson": "not base64"}
    controller.change("Secret", "MODIFIED", secret)
    after = wasm(controller.snapshot()).config.vm_config.environment_variables.key_values
    assert after["LABKIT_AGENT_PULL_SECRET"] == text
    assert ready(controller).reason == Reason.INVALID_SPEC


def test_deleted_plugin_leaves_and_its_successor_starts_afresh(controller: Controller) -> None:
    version = give(controller, plugin()).resources(EXTENSION)["higress-system.mock"].version
    controller.answered(Answer(EXTENSION, {"higress-system.mock": version}))
    controller.change("WasmPlugin", "DELETED", plugin())
    assert controller.snapshot().resources(EXTENSION) == {}
    give(controller, plugin())
    assert ready(controller).status == "Unknown"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "garbage",
    [
        {},
        {"metadata": None, "spec": None},
        {"metadata": {"name": "g", "namespace": "higress-system"}, "spec": []},
        {"metadata": {"name": "g", "namespace": "higress-system", "labels": 1, "annotations": []}, "spec": "x"},
        {
            "metadata": {"name": "g", "namespace": "x", "labels": {"kubernetes.io/service-name": "foo"}},
            "spec": {"rules": [1], "ports": [{"port": "x"}, None], "matchRules": 1, "url": 1},
            "ports": [None],
            "endpoints": [7],
        },
    ],
)
def test_garbage_takes_nobody_else_down(controller: Controller, kind: str, garbage: dict[str, Any]) -> None:
    service = {"metadata": {"namespace": "default", "name": "foo"}, "spec": {"ports": [{"port": 80}]}}
    controller.change("Service", "ADDED", service)
    controller.change(kind, "ADDED", garbage)
    snapshot = give(controller, plugin())
    assert "higress-system.mock" in snapshot.resources(EXTENSION)
    assert "outbound|80||foo.default.svc.cluster.local" in snapshot.resources(CLUSTER)
    assert list(controller.statuses())


def test_grpc_rules_are_accepted_with_a_condition(controller: Controller) -> None:
    give(controller, plugin(matchRules=[{"ingress": ["default/foo"], "routeType": "GRPC"}]))
    ((_, conditions),) = controller.statuses()
    assert [condition.type for condition in conditions] == ["Ready", "RouteTypesServed"]
    assert "GRPCRoute" in conditions[1].message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("True", "Loaded")),
        ("PullFailed: no such tag", ("False", "PullFailed")),
        ("Unable to create Wasm plugin: x", ("False", "Rejected")),
    ],
)
def test_reason_is_read_from_the_agents_words(error: str | None, expected: tuple[str, str]) -> None:
    condition = condition_from_answer(error)
    assert (condition.status, str(condition.reason)) == expected


def test_status_is_written_only_when_it_changed_and_keeps_its_transition_time() -> None:
    pending = Condition("Unknown", Reason.PENDING, "waiting")
    first = status_of(None, 1, [pending], "t1")
    assert first is not None
    assert status_of(first, 1, [pending], "t2") is None
    loaded = status_of(first, 1, [Condition("True", Reason.LOADED, "runs")], "t2")
    assert loaded is not None
    again = status_of(loaded, 2, [Condition("True", Reason.LOADED, "runs")], "t3")
    assert again is not None
    assert [s["conditions"][0]["lastTransitionTime"] for s in (first, loaded, again)] == ["t1", "t2", "t2"]
