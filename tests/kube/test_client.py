from __future__ import annotations

import threading

import pytest
import yaml

from labkit import resources
from labkit.kube import (
    ApiServerAway,
    Client,
    Invalid,
    ManifestError,
    NotFound,
    NotReady,
    UnknownKind,
    documents,
)


@pytest.fixture
def manifest(namespace: str):
    return resources.path("manifests/wasmplugin.yaml").read_text().replace("higress-system", namespace)


def outcomes(applied):
    return [one.outcome for one in applied]


def test_apply_says_what_it_did(client: Client, manifest):
    assert outcomes(client.apply(manifest)) == ["created"]
    assert outcomes(client.apply(manifest)) == ["unchanged"]
    (changed,) = client.apply(manifest.replace("hello foo", "hello again"))
    assert (changed.outcome, changed.kind, changed.object["metadata"]["generation"]) == ("configured", "WasmPlugin", 2)
    assert str(changed) == "wasmplugin/mock configured"


def test_apply_removes_what_the_manifest_no_longer_says_and_nothing_else(client: Client, manifest, namespace):
    client.apply(manifest + "  priority: 7\n")
    body = client.get("wasmplugin", "mock", namespace=namespace)
    client.apply({**body, "metadata": {"name": "mock", "namespace": namespace, "labels": {"by": "someone"}}})
    client.apply(manifest)
    assert "priority" not in client.get("wasmplugin", "mock", namespace=namespace)["spec"]


@pytest.mark.parametrize("name", ["crd-wasmplugin", "quickstart", "wasmplugin"])
def test_the_kits_manifests_apply_and_apply_again_unchanged(client: Client, name):
    path = resources.path(f"manifests/{name}.yaml")
    client.apply(path)
    assert set(outcomes(client.apply(path))) == {"unchanged"}


def test_delete_says_what_there_was(client: Client, manifest):
    client.apply(manifest)
    assert outcomes(client.delete(manifest)) == ["deleted"]
    assert client.delete(manifest) == []


@pytest.mark.parametrize("name", ["WasmPlugin", "wasmplugins", "wasmplugin", "wasmplugins.extensions.higress.io"])
def test_kinds_go_by_the_names_kubectl_takes(client: Client, manifest, namespace, name):
    client.apply(manifest)
    assert client.get(name, "mock", namespace=namespace)["kind"] == "WasmPlugin"
    assert [body["kind"] for body in client.list(name, namespace=namespace)] == ["WasmPlugin"]


def test_tables_have_the_servers_columns(client: Client, manifest, namespace):
    client.apply(manifest)
    table = client.table("wasmplugins", namespace=namespace)
    assert table.columns == ("Name", "Phase", "Priority", "Ready", "Reason", "Age")
    assert table.rows[0][0] == "mock"
    assert client.table("wasmplugins").columns[0] == "Namespace"


@pytest.mark.parametrize(
    ("addition", "field", "words"),
    [
        ("  colour: red\n", "spec.colour", "unknown field"),
        ("  priority: high\n", "spec.priority", "must be of type integer"),
        ("  phase: FIRST\n", "spec.phase", "supported values"),
        ("    - domian: [x]\n", "spec.matchRules[3].domian", "unknown field"),
    ],
)
def test_refusals_name_file_document_field_and_line(client: Client, manifest, tmp_path, addition, field, words):
    path = tmp_path / "plugin.yaml"
    text = f"# a comment\n---\n{manifest}{addition}"
    path.write_text(text)
    with pytest.raises(Invalid, match=r"plugin.yaml, document 1: WasmPlugin .*/mock was refused") as caught:
        client.apply(path)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert words in problem.message
    assert problem.line == len(text.splitlines())
    assert "kubectl explain wasmplugin.spec" in caught.value.hint


# Each line holds nine times what the line before holds.
BOMB = "l0: &l0 [x]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: [\n", "line 2, column 1"),
        ("a: 1\na: 2\n", "line 2, column 1: the key 'a' appears twice"),
        ("- 1\n", "document 1 is not an object"),
        ("kind: Service\n---\n", "document 1: apiVersion is missing"),
        ("apiVersion: v1\nkind: Service\n", "metadata.name is missing"),
        ("\n", "holds no objects"),
        ("a: !!python/object:os.system\n", "line 1"),
        ("nowhere.yaml", "there is no file nowhere.yaml"),
        ("[" * 20_000 + "\n", "nested too deeply"),
        (BOMB, "grows beyond 8 MB"),
        ("kind: A\napiVersion: v1\nmetadata: &a {name: x, labels: *a}\n", "grows beyond 8 MB"),
    ],
)
def test_what_is_no_manifest_is_told_before_anything_is_applied(client: Client, text, words):
    with pytest.raises(ManifestError, match=words) as caught:
        client.apply(text)
    assert caught.value.exit_code == 2


def test_a_list_counts_as_its_items():
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ("a", "b")]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})
    assert [document.value["metadata"]["name"] for document in documents(text)] == ["a", "b"]


def test_dates_stay_what_was_written():
    (document,) = documents("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {day: 2024-01-01}\n")
    assert document.value["data"] == {"day": "2024-01-01"}


def test_what_is_not_there_is_named(client: Client):
    with pytest.raises(NotFound, match="WasmPlugin higress-system/never not found"):
        client.get("wasmplugin", "never", namespace="higress-system")
    with pytest.raises(NotFound, match="there is no namespace 'nowhere'"):
        client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "nowhere"}})
    with pytest.raises(UnknownKind, match=r"kind Gadget of toys.example/v1"):
        client.apply({"apiVersion": "toys.example/v1", "kind": "Gadget", "metadata": {"name": "a"}})
    with pytest.raises(UnknownKind, match="kind gadgets"):
        client.list("gadgets")


def test_an_api_server_that_is_away(restartable, tmp_path):
    client = Client(restartable.kubeconfig)
    restartable.kill()
    with pytest.raises(ApiServerAway, match=r"http://127.0.0.1:\d+ does not answer") as caught:
        client.list("services")
    assert "labkit up" in caught.value.hint
    assert restartable.token not in str(caught.value)
    with pytest.raises(ApiServerAway, match="there is no kubeconfig"):
        Client(tmp_path / "none")
    (tmp_path / "broken").write_text("clusters: 5\n")
    with pytest.raises(ApiServerAway, match="cannot be used"):
        Client(tmp_path / "broken")


def ready(body, status, generation=None, **condition):
    found = {"type": "Ready", "status": status, "reason": "Loaded", "message": "all is well", **condition}
    return {"observedGeneration": generation or body["metadata"]["generation"], "conditions": [found]}


def test_wait_for_ready_looks_at_the_generation_that_was_applied(client: Client, manifest):
    (first,) = client.apply(manifest)
    client.update_status(first.object, ready(first.object, "True"))
    (second,) = client.apply(manifest.replace("hello foo", "again"))
    client.update_status(second.object, ready(second.object, "Unknown", reason="Pending"))
    later = threading.Timer(0.05, client.update_status, (second.object, ready(second.object, "True")))
    later.start()
    found = client.wait_for_ready(second.object, timeout=20)
    later.join()
    assert found["status"]["observedGeneration"] == 2


def test_wait_for_ready_says_why_not(client: Client, manifest):
    (applied,) = client.apply(manifest)
    with pytest.raises(NotReady, match=r"after 0.2 s: the controller has not looked at it yet"):
        client.wait_for_ready(applied, timeout=0.2)
    client.update_status(applied.object, ready(applied.object, "False", reason="PullFailed", message="no such image"))
    with pytest.raises(NotReady, match="PullFailed: no such image") as caught:
        client.wait_for_ready(applied, timeout=20)
    assert caught.value.reason == "PullFailed"


def test_the_status_of_a_deleted_object_does_not_reach_its_successor(client: Client, manifest):
    (old,) = client.apply(manifest)
    client.delete(manifest)
    (new,) = client.apply(manifest)
    with pytest.raises(Exception, match="UID"):
        client.update_status(old.object, ready(old.object, "True"))
    assert "status" not in client.get("wasmplugin", "mock", namespace=new.namespace)
