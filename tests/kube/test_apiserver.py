"""The server by itself: what it keeps, what it answers, what it refuses."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.kube import Client

from .apiserver import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"
PLUGINS = "/apis/extensions.higress.io/v1alpha1/namespaces/higress-system/wasmplugins"


def config_map(name: str, **data: str):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def plugin(name: str, **spec):
    metadata = {"name": name, "namespace": "higress-system"}
    spec = {"url": "oci://registry.lab/x:1", **spec}
    return {"apiVersion": "extensions.higress.io/v1alpha1", "kind": "WasmPlugin", "metadata": metadata, "spec": spec}


def test_kill_9_loses_nothing_that_was_acknowledged(restartable: ApiServer):
    token = restartable.token
    versions = []
    for number in range(30):
        code, made = restartable.ask("POST", MAPS, config_map(f"n{number}", value=str(number)))
        assert code == 201
        versions.append(int(made["metadata"]["resourceVersion"]))
    restartable.ask("DELETE", f"{MAPS}/n0")
    restartable.kill()
    restartable.start()
    _, found = restartable.ask("GET", MAPS)
    assert {item["data"]["value"] for item in found["items"]} == {str(number) for number in range(1, 30)}
    _, later = restartable.ask("POST", MAPS, config_map("later"))
    assert int(later["metadata"]["resourceVersion"]) > max(versions) + 1
    assert versions == sorted(set(versions))
    assert restartable.token == token


def test_a_definition_is_served_at_once_and_after_a_restart(restartable: ApiServer):
    from labkit import resources

    Client(restartable.kubeconfig).apply(resources.path("manifests/crd-wasmplugin.yaml"))
    assert restartable.ask("POST", PLUGINS, plugin("one"))[0] == 201
    restartable.kill()
    restartable.start()
    assert restartable.ask("GET", f"{PLUGINS}/one")[0] == 200
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wasmplugins.extensions.higress.io"
    assert restartable.ask("DELETE", definition)[0] == 200
    assert restartable.ask("GET", PLUGINS)[0] == 404


def test_the_kubeconfig_is_its_owners_alone(server: ApiServer):
    assert stat.S_IMODE(server.kubeconfig.stat().st_mode) == 0o600


def test_a_taken_port_is_named(server: ApiServer, tmp_path):
    command = [sys.executable, "-m", "labkit.kube.apiserver", "--port", str(server.port)]
    command += ["--data", str(tmp_path), "--kubeconfig", str(tmp_path / "config")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"port {server.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic bGFia2l0Ondyb25n"])
def test_without_the_token_nothing_is_read_or_written(server: ApiServer, authorization):
    for method, path in (("GET", MAPS), ("POST", MAPS), ("GET", "/api"), ("DELETE", f"{MAPS}/x")):
        code, status = server.ask(method, path, config_map("x"), headers={"Authorization": authorization})
        assert (code, status["reason"]) == (401, "Unauthorized")


def test_health_needs_no_token(server: ApiServer):
    for path in ("/healthz", "/readyz", "/livez"):
        assert server.ask("GET", path, headers={"Authorization": ""}) == (200, "ok")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b'{"metadata": {"name": "\\ud800"}}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"1: 2", "application/yaml", 400),
        (b"!!python/object/apply:os.getpid []", "application/yaml", 400),
        (
            b"a: &a [x,x]\n" + b"\n".join(b"%c: &%c [*%c,*%c]" % (n + 1, n + 1, n, n) for n in range(97, 120)),
            "application/yaml",
            400,
        ),
        (b"[" * 50_000, "application/yaml", 400),
        (b"{}", "text/plain", 415),
        (b" " * (4 << 20), "application/json", 413),
    ],
)
def test_bodies_of_any_kind_get_a_status(server: ApiServer, body, content_type, code):
    answered, status = server.ask("POST", MAPS, body, content_type=content_type)
    assert (answered, status["kind"], status["status"]) == (code, "Status", "Failure")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 60))
def test_no_protobuf_makes_the_server_fail(server: ApiServer, noise, place):
    whole = b"k8s\x00\n\x0f\n\x02v1\x12\tConfigMap\x12\x11\n\x08\n\x06fuzzed\x12\x05\n\x01a\x12\x00"
    body = whole[:place] + noise
    code, _ = server.ask("POST", f"{MAPS}?dryRun=All", body, content_type="application/vnd.kubernetes.protobuf")
    assert code < 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["metadata", "spec", "status", "kind", "data", "apiVersion"]),
    json_values,
    st.sampled_from(["POST", "PUT", "application/merge-patch+json", "application/apply-patch+yaml"]),
    st.sampled_from(
        [
            MAPS,
            PLUGINS,
            "/api/v1/namespaces",
            "/api/v1/namespaces/default/services",
            "/apis/networking.k8s.io/v1/namespaces/default/ingresses",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        ]
    ),
)
def test_no_body_makes_the_server_fail(server: ApiServer, key, value, verb, path):
    method = "PATCH" if "/" in verb else verb
    media = verb if method == "PATCH" else "application/json"
    body = {"metadata": {"name": "fuzz"}, key: value}
    path = path if method == "POST" else f"{path}/fuzz?fieldManager=fuzz"
    code, _ = server.ask(method, path, body, content_type=media)
    assert code < 500


def test_names_are_taken_once_and_found_nowhere_else(server: ApiServer):
    assert server.ask("POST", MAPS, config_map("once"))[0] == 201
    code, status = server.ask("POST", MAPS, config_map("once"))
    assert (code, status["reason"], status["message"]) == (409, "AlreadyExists", 'configmaps "once" already exists')
    code, status = server.ask("GET", f"{MAPS}/never")
    assert (code, status["details"]) == (404, {"name": "never", "kind": "configmaps"})
    code, status = server.ask("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("x"))
    assert (code, status["message"]) == (404, 'namespaces "nowhere" not found')
    assert server.ask("GET", "/api/v1/pods")[0] == 404


def test_generated_names(server: ApiServer):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}}
    names = {server.ask("POST", MAPS, body)[1]["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


def test_an_update_of_an_old_version_is_a_conflict(server: ApiServer):
    _, made = server.ask("POST", MAPS, config_map("raced", a="1"))
    path = f"{MAPS}/raced"
    assert server.ask("PUT", path, {**made, "data": {"a": "2"}})[0] == 200
    code, status = server.ask("PUT", path, {**made, "data": {"a": "3"}})
    assert (code, status["reason"]) == (409, "Conflict")
    assert server.ask("GET", path)[1]["data"] == {"a": "2"}


def test_an_update_that_changes_nothing_keeps_the_version(server: ApiServer):
    _, made = server.ask("POST", MAPS, config_map("same", a="1"))
    _, again = server.ask("PUT", f"{MAPS}/same", made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_generation_counts_changes_of_the_spec_alone(server: ApiServer):
    server.ask("POST", PLUGINS, plugin("counted"))
    path, media = f"{PLUGINS}/counted", "application/merge-patch+json"

    def patch(body, suffix=""):
        return server.ask("PATCH", path + suffix, body, content_type=media)[1]

    assert patch({"spec": {"priority": 1}})["metadata"]["generation"] == 2
    assert patch({"spec": {"priority": 1}})["metadata"]["generation"] == 2
    assert patch({"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 2
    written = patch({"status": {"observedGeneration": 2}, "spec": {"priority": 9}}, "/status")
    assert (written["metadata"]["generation"], written["spec"]["priority"]) == (2, 1)
    kept = patch({"status": {"observedGeneration": 7}, "spec": {"priority": 3}})
    assert (kept["status"], kept["metadata"]["generation"]) == ({"observedGeneration": 2}, 3)


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"url": 5}, "spec.url", 'must be of type string: "integer"'),
        ({"priority": "high"}, "spec.priority", 'must be of type integer: "string"'),
        ({"priority": 2**40}, "spec.priority", "int32"),
        ({"phase": "FIRST"}, "spec.phase", 'supported values: "UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"'),
        ({"url": ""}, "spec.url", "should be at least 1 chars long"),
        ({"url": None}, "spec.url", "Required value"),
        ({"sha256": "xyz"}, "spec.sha256", "should match"),
        ({"matchRules": [{"ingress": ["a"]}, {"ingress": "a"}]}, "spec.matchRules[1].ingress", "of type array"),
        ({"defaultConfig": []}, "spec.defaultConfig", 'must be of type object: "array"'),
        ({"vmConfig": {"env": [{"name": "A"}, {"name": "A"}]}}, "spec.vmConfig.env[1]", "Duplicate value"),
    ],
)
def test_what_the_schema_forbids_is_refused_with_its_path(server: ApiServer, spec, field, words):
    code, status = server.ask("POST", PLUGINS, plugin("refused", **spec))
    assert (code, status["reason"]) == (422, "Invalid")
    causes = {cause["field"]: cause["message"] for cause in status["details"]["causes"]}
    assert words in causes[field]
    assert status["message"].startswith('WasmPlugin.extensions.higress.io "refused" is invalid: ')


def test_unknown_fields_are_refused_warned_of_or_dropped(server: ApiServer):
    body = plugin("unknown", colour="red", defaultConfig={"free": {"form": 1}})
    code, status = server.ask("POST", f"{PLUGINS}?fieldValidation=Strict", body)
    assert (code, status["reason"]) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.colour"' in status["message"]
    code, made = server.ask("POST", f"{PLUGINS}?fieldValidation=Ignore", body)
    assert code == 201
    assert made["spec"] == {"url": "oci://registry.lab/x:1", "defaultConfig": {"free": {"form": 1}}}


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("services", {"spec": {"ports": [{"port": "a"}]}}, 400, "spec.ports[0].port"),
        ("services", {"spec": {"ports": [{"port": 0}]}}, 422, "must be between 1 and 65535"),
        ("services", {"spec": {}}, 422, "spec.ports: Required value"),
        ("services", {"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}, 422, "DNS-1035"),
        ("secrets", {"data": {"a": "no base64!"}}, 422, "not base64"),
        ("configmaps", {"metadata": {"name": "Upper"}}, 422, "lowercase RFC 1123"),
        ("configmaps", {"metadata": {"name": "x", "labels": {"-": "y"}}}, 422, "metadata.labels"),
        ("configmaps", {"metadata": {"name": "x", "namespace": "other"}}, 400, "does not match the namespace"),
        ("configmaps", {"kind": "Secret"}, 400, "does not match the expected kind"),
        ("configmaps", {"metadata": {}}, 422, "name or generateName is required"),
    ],
)
def test_built_in_kinds_are_validated(server: ApiServer, path, body, code, words):
    body = {"metadata": {"name": "bad"}, **body}
    answered, status = server.ask("POST", f"/api/v1/namespaces/default/{path}?fieldValidation=Strict", body)
    assert answered == code
    assert words in status["message"]


def test_lists_come_in_pages_of_one_version(server: ApiServer):
    for number in range(7):
        server.ask(
            "POST", MAPS, {**config_map(f"page{number}"), "metadata": {"name": f"page{number}", "labels": {"p": "1"}}}
        )
    _, page = server.ask("GET", f"{MAPS}?labelSelector=p%3D1&limit=3")
    names = [item["metadata"]["name"] for item in page["items"]]
    server.ask("DELETE", f"{MAPS}/page6")
    while token := page["metadata"].get("continue"):
        _, page = server.ask("GET", f"{MAPS}?labelSelector=p%3D1&limit=3&continue={token}")
        names += [item["metadata"]["name"] for item in page["items"]]
    assert names == [f"page{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("labelSelector=tier%3Da", {"s1"}),
        ("labelSelector=tier!%3Da,set%3Ds", {"s2", "s3"}),
        ("labelSelector=tier%20in%20(a,b)", {"s1", "s2"}),
        ("labelSelector=tier%20notin%20(a,b),set", {"s3"}),
        ("labelSelector=set,!tier", {"s3"}),
        ("labelSelector=set%3Ds&fieldSelector=metadata.name%3Ds2", {"s2"}),
        ("labelSelector=set&fieldSelector=metadata.name!%3Ds2", {"s1", "s3"}),
    ],
)
def test_selectors(server: ApiServer, query, names):
    for name, labels in (("s1", {"tier": "a"}), ("s2", {"tier": "b"}), ("s3", {})):
        metadata = {"name": name, "labels": {"set": "s", **labels}}
        server.ask("POST", MAPS, {**config_map(name), "metadata": metadata})
    _, found = server.ask("GET", f"{MAPS}?{query}")
    assert {item["metadata"]["name"] for item in found["items"]} == names


def test_a_namespace_goes_with_its_contents(server: ApiServer):
    server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "doomed"}})
    server.ask("POST", "/api/v1/namespaces/doomed/configmaps", config_map("x"))
    assert server.ask("DELETE", "/api/v1/namespaces/doomed")[0] == 200
    assert server.ask("GET", "/api/v1/namespaces/doomed/configmaps/x")[0] == 404
    assert server.ask("GET", "/api/v1/namespaces/doomed")[0] == 404
    assert server.ask("DELETE", "/api/v1/namespaces/default")[0] == 403


def test_finalizers_hold_an_object_back(server: ApiServer):
    body = config_map("held")
    body["metadata"]["finalizers"] = ["labkit.example/hold"]
    server.ask("POST", MAPS, body)
    _, marked = server.ask("DELETE", f"{MAPS}/held")
    assert marked["metadata"]["deletionTimestamp"]
    patch = {"metadata": {"finalizers": None}}
    server.ask("PATCH", f"{MAPS}/held", patch, content_type="application/merge-patch+json")
    assert server.ask("GET", f"{MAPS}/held")[0] == 404


def test_preconditions_of_a_delete(server: ApiServer):
    server.ask("POST", MAPS, config_map("kept"))
    code, status = server.ask("DELETE", f"{MAPS}/kept", {"preconditions": {"uid": "other"}})
    assert (code, status["reason"]) == (409, "Conflict")
    assert server.ask("DELETE", f"{MAPS}/kept?dryRun=All")[0] == 200
    assert server.ask("GET", f"{MAPS}/kept")[0] == 200


def test_dry_runs_change_nothing(server: ApiServer):
    code, made = server.ask("POST", f"{MAPS}?dryRun=All", config_map("dry"))
    assert (code, made["metadata"]["name"]) == (201, "dry")
    assert server.ask("GET", f"{MAPS}/dry")[0] == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"names": {"plural": "others", "kind": "Thing"}}, "metadata.name"),
        ({"scope": "Galaxy"}, "spec.scope"),
        ({"versions": []}, "spec.versions"),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]}, "spec.versions[0].schema.openAPIV3Schema"),
        (
            {
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "str"}}}},
                    }
                ]
            },
            "spec.versions[0].schema.openAPIV3Schema.properties[a].type",
        ),
    ],
)
def test_definitions_that_cannot_be_served_are_refused(server: ApiServer, change, field):
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": "test.example",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        **change,
    }
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    body |= {"metadata": {"name": "things.test.example"}, "spec": spec}
    code, status = server.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    assert code == 422
    assert field in {cause["field"] for cause in status["details"]["causes"]}
