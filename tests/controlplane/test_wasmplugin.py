"""What a WasmPlugin's spec means."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.controlplane import InvalidSpec, Phase, filter_order, plugin_config, read_plugin
from labkit.controlplane.wasmplugin import module_url

URL = "oci://registry.lab/plugins/mock:1.0.0"


def plugin(name: str = "mock", **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "higress-system", "name": name, "generation": 3, "uid": "u"}
    return {"metadata": metadata, "spec": {"url": URL, **spec}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {}),
        ({"defaultConfig": {"a": 1}}, {"a": 1}),
        ({"defaultConfig": {"a": 1}, "defaultConfigDisable": True}, None),
        ({"pluginConfig": {"p": 1}, "defaultConfig": {"a": 1}, "matchRules": [{}]}, {"p": 1}),
        ({"pluginConfig": {}, "defaultConfig": {"a": 1}}, {}),
        (
            {"pluginConfig": {"_rules_": [{"_match_route_": ["default/foo"], "content": "x"}]}},
            {"_rules_": [{"_match_route_": ["default/foo"], "content": "x"}]},
        ),
        (
            {"defaultConfig": {"a": 1}, "matchRules": [{"ingress": ["default/foo"], "config": {"b": 2}}]},
            {"a": 1, "_rules_": [{"b": 2, "_match_route_": ["default/foo"]}]},
        ),
        (
            {
                "defaultConfig": {"a": 1},
                "defaultConfigDisable": True,
                "matchRules": [{"domain": ["*.example.com"], "service": ["foo.default.svc.cluster.local:80"]}],
            },
            {
                "_rules_": [
                    {"_match_service_": ["foo.default.svc.cluster.local:80"], "_match_domain_": ["*.example.com"]}
                ]
            },
        ),
        ({"matchRules": [{"domain": ["x"], "configDisable": True}]}, {}),
        ({"defaultConfigDisable": True, "matchRules": [{"domain": ["x"], "configDisable": True}]}, None),
        ({"matchRules": [{"configDisable": True}]}, {}),
        ({"matchRules": [{"domain": ["x"], "config": None}]}, {"_rules_": [{"_match_domain_": ["x"]}]}),
    ],
)
def test_conversion(spec: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert plugin_config(spec) == expected


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"matchRules": [{"ingress": ["a"]}, {"config": {}}]}, "spec.matchRules[1]"),
        ({"matchRules": [{"ingress": []}]}, "spec.matchRules[0]"),
        ({"matchRules": ["x"]}, "spec.matchRules[0]"),
        ({"matchRules": [{"ingress": [1]}]}, "spec.matchRules[0].ingress[0]"),
        ({"matchRules": [{"ingress": ["a"], "routeType": "TCP"}]}, "spec.matchRules[0].routeType"),
        ({"matchRules": {}}, "spec.matchRules"),
        ({"defaultConfig": []}, "spec.defaultConfig"),
        ({"url": ""}, "spec.url"),
        ({"url": None}, "spec.url"),
        ({"url": "oci://registry.lab/Upper:1"}, "spec.url"),
        ({"url": "ftp://host/x.wasm"}, "spec.url"),
        ({"url": "file://relative.wasm"}, "spec.url"),
        ({"url": "http:///x.wasm"}, "spec.url"),
        ({"url": "http://host:port/x.wasm"}, "spec.url"),
        ({"url": "registry.lab/a b"}, "spec.url"),
        ({"phase": "FIRST"}, "spec.phase"),
        ({"priority": "1"}, "spec.priority"),
        ({"priority": True}, "spec.priority"),
        ({"failStrategy": "OPEN"}, "spec.failStrategy"),
        ({"imagePullPolicy": "Never"}, "spec.imagePullPolicy"),
        ({"sha256": "abc"}, "spec.sha256"),
        ({"url": f"registry.lab/x@sha256:{'0' * 64}", "sha256": "1" * 64}, "spec.sha256"),
        ({"vmConfig": {"env": [{"name": "A", "valueFrom": "HOST", "value": "x"}]}}, "spec.vmConfig.env[0].value"),
        ({"vmConfig": {"env": [{"name": "A"}, {"name": "A"}]}}, "spec.vmConfig.env[1].name"),
        ({"vmConfig": {"env": [{"name": "LABKIT_AGENT_PLUGIN"}]}}, "spec.vmConfig.env[0].name"),
        ({"vmConfig": {"env": [{"name": "1A"}]}}, "spec.vmConfig.env[0].name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_path(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        read_plugin(plugin(**spec))
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("registry.lab/plugins/mock", "oci://registry.lab/plugins/mock"),
        ("registry.lab/plugins/mock:1.0.0", "oci://registry.lab/plugins/mock:1.0.0"),
        ("127.0.0.1:5000/mock:1", "oci://127.0.0.1:5000/mock:1"),
        ("mock", "oci://mock"),
        (f"oci://r.lab/m@sha256:{'a' * 64}", f"oci://r.lab/m@sha256:{'a' * 64}"),
        ("file:///tmp/x.wasm", "file:///tmp/x.wasm"),
        ("https://host:8443/x.wasm?y=1", "https://host:8443/x.wasm?y=1"),
    ],
)
def test_address_without_a_scheme_is_an_image(url: str, full: str) -> None:
    assert module_url(url) == full


def test_all_fields_are_read() -> None:
    found = read_plugin(
        plugin(
            pluginName="root",
            phase="AUTHZ",
            priority=7,
            failStrategy="FAIL_OPEN",
            imagePullPolicy="Always",
            imagePullSecret="credentials",
            sha256="sha256:" + "A" * 64,
            vmConfig={"env": [{"name": "A", "value": "1"}, {"name": "HOME", "valueFrom": "HOST"}]},
            matchRules=[{"ingress": ["default/foo"], "routeType": "GRPC"}],
        )
    )
    assert (found.root_id, found.phase, found.priority, found.fail_open) == ("root", Phase.AUTHZ, 7, True)
    assert (found.pull_policy, found.pull_secret, found.sha256) == ("Always", "credentials", "a" * 64)
    assert (found.env, found.host_env, found.rules) == ((("A", "1"),), ("HOME",), 1)
    assert "matchRules[0].routeType" in found.remarks[0]


def test_revision_changes_with_what_the_user_changes_only() -> None:
    def revision(**metadata: Any) -> str:
        resource = plugin()
        resource["metadata"] |= metadata
        return read_plugin(resource).revision

    assert revision() == revision(resourceVersion="99", managedFields=[])
    assert revision() == revision(annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"})
    different = {revision(), revision(generation=4), revision(uid="v"), revision(annotations={"a": "b"})}
    assert len(different) == 4


configs = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)
names = st.lists(st.text(min_size=1, max_size=5), max_size=2)
rules = st.fixed_dictionaries(
    {"ingress": names, "domain": names, "service": names, "config": configs, "configDisable": st.booleans()}
).filter(lambda rule: rule["configDisable"] or rule["ingress"] or rule["domain"] or rule["service"])


@given(default=configs, disable=st.booleans(), match_rules=st.lists(rules, max_size=5))
def test_rules_keep_their_order_their_config_and_nothing_else(
    default: dict[str, Any], disable: bool, match_rules: list[dict[str, Any]]
) -> None:
    active = [rule for rule in match_rules if not rule["configDisable"]]
    converted = plugin_config({"defaultConfig": default, "defaultConfigDisable": disable, "matchRules": match_rules})
    if converted is None:
        assert disable
        assert not active
        return
    assert [rule.get("_match_route_", []) for rule in converted.get("_rules_", [])] == [r["ingress"] for r in active]
    for found, rule in zip(converted.get("_rules_", []), active, strict=True):
        assert {key: value for key, value in found.items() if not key.startswith("_match_")} == rule["config"]
    rest = {key: value for key, value in converted.items() if key != "_rules_"}
    assert rest == ({} if disable else default)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Phase)), st.integers(-3, 3), st.sampled_from("abcdef")),
        unique_by=lambda item: item[2],
        max_size=6,
    )
)
def test_filter_order_is_total_and_phase_comes_before_priority(items: list[tuple[Phase, int, str]]) -> None:
    plugins = [read_plugin(plugin(name, phase=phase.name, priority=priority)) for phase, priority, name in items]
    ordered = sorted(plugins, key=filter_order)
    backwards = plugins[::-1]
    backwards.sort(key=filter_order)
    assert ordered == backwards
    for before, after in itertools.pairwise(ordered):
        assert before.phase <= after.phase
        assert before.phase < after.phase or before.priority >= after.priority
