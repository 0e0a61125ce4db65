"""The client: apply, get, list, delete, watch, wait; for the lab's own API server and for any cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from labkit.kube._cluster import Cluster, Kind
from labkit.kube._errors import Conflict, FieldProblem, Invalid, KubeError, NotFound, NotReady, UnknownKind
from labkit.kube._last_applied import annotated, merge_patch
from labkit.kube._manifests import Document, Manifest, Object, documents
from labkit.kube._watch import Changed, Listed, Watch, complete

FIELD_MANAGER = "labkit"

Outcome = Literal["created", "configured", "unchanged", "deleted"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one object of a manifest.

    Attributes:
        kind: Its kind, `WasmPlugin`.
        name: Its name.
        namespace: Its namespace; None for kinds that have none.
        outcome: created, configured, unchanged; or deleted.
        object: The object as the API server has it now (for deleted: had it).
    """

    kind: str
    name: str
    namespace: str | None
    outcome: Outcome
    object: Object = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name} {self.outcome}"


@dataclass(frozen=True, slots=True)
class Table:
    """Objects as kubectl lists them, computed by the API server."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Client:
    """A Kubernetes client that speaks in manifests and plain dictionaries.

    Args:
        kubeconfig: The kubeconfig; None takes $KUBECONFIG or ~/.kube/config, as kubectl does.
        context: One of its contexts; None takes the current one.

    >>> client = Client(lab.kubeconfig)
    >>> [str(one) for one in client.apply("manifests/wasmplugin.yaml")]
    ['wasmplugin/mock created']

    Raises:
        ApiServerAway: There is no usable kubeconfig. Methods raise it when nobody answers.
    """

    def __init__(self, kubeconfig: str | os.PathLike[str] | None = None, context: str | None = None) -> None:
        self._cluster = Cluster(kubeconfig, context)

    @property
    def server(self) -> str:
        """The API server's address."""
        return self._cluster.server

    def close(self) -> None:
        """Close the connections; watches are stopped by themselves."""
        self._cluster.close()

    def version(self) -> str:
        """The API server's version."""
        return str(self._cluster.request("GET", "/version", what="the version").get("gitVersion"))

    def apply(
        self,
        manifest: Manifest,
        *,
        field_validation: Literal["Strict", "Warn", "Ignore"] = "Strict",
        namespace: str | None = None,
    ) -> list[Applied]:
        """Create or change what a manifest says, as `kubectl apply` does.

        Args:
            manifest: A path, YAML text, an object or a list of them.
            field_validation: Whether unknown fields are refused, warned of or dropped.
            namespace: For objects that name none; the kubeconfig's by default.

        Raises:
            ManifestError: Not YAML, or no Kubernetes objects; nothing was applied.
            Invalid: The API server refused an object, with the fields; what stands before it in the file is applied.
        """
        return [self._apply(document, field_validation, namespace) for document in documents(manifest)]

    def _apply(self, document: Document, field_validation: str, namespace: str | None) -> Applied:
        try:
            kind, wanted = self._located(document.value, namespace)
            for _ in range(5):
                try:
                    return self._apply_once(kind, annotated(wanted), document.title, field_validation)
                except Conflict:
                    continue
            return self._apply_once(kind, annotated(wanted), document.title, field_validation)
        except KubeError as error:
            raise _at(document, error) from None

    def _apply_once(self, kind: Kind, wanted: Object, title: str, field_validation: str) -> Applied:
        metadata = wanted["metadata"]
        namespace, name = metadata.get("namespace"), metadata["name"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": field_validation}
        path = kind.path(namespace, name)
        try:
            live = self._cluster.request("GET", path, what=title)
        except NotFound:
            body = self._cluster.request("POST", kind.path(namespace), what=title, body=wanted, query=query)
            return Applied(kind.kind, name, namespace, "created", body)
        patch = merge_patch(live, wanted)
        if not patch:
            return Applied(kind.kind, name, namespace, "unchanged", live)
        content_type = "application/merge-patch+json"
        try:
            body = self._cluster.request("PATCH", path, what=title, body=patch, query=query, content_type=content_type)
        except NotFound as error:
            raise Conflict(f"{title} was deleted meanwhile") from error
        same = body["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
        return Applied(kind.kind, name, namespace, "unchanged" if same else "configured", body)

    def _located(self, value: Object, namespace: str | None) -> tuple[Kind, Object]:
        """The kind of an object, and a copy of it in the namespace it belongs to."""
        kind = self._cluster.kind_of(value["apiVersion"], value["kind"])
        metadata = dict(value["metadata"])
        if kind.namespaced:
            metadata["namespace"] = metadata.get("namespace") or namespace or self._cluster.namespace
        else:
            metadata.pop("namespace", None)
        return kind, {**value, "metadata": metadata}

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object:
        """One object.

        Args:
            kind: As kubectl takes it: WasmPlugin, wasmplugins, svc, ingresses.networking.k8s.io.
            name: Its name.
            namespace: Its namespace; the kubeconfig's by default.
        """
        served = self._cluster.kind_named(kind)
        namespace = self._namespace(served, namespace)
        return self._cluster.request("GET", served.path(namespace, name), what=_title(served, namespace, name))

    def list(self, kind: str, *, namespace: str | None = None, label_selector: str | None = None) -> list[Object]:
        """All objects of a kind, in one namespace or (without) in all."""
        served = self._cluster.kind_named(kind)
        query = {"labelSelector": label_selector}
        found = self._cluster.request("GET", served.path(namespace), what=served.plural, query=query)
        return [complete(served, item) for item in found.get("items") or ()]

    def table(self, kind: str, name: str | None = None, *, namespace: str | None = None) -> Table:
        """One object or all of a kind, as the columns that `kubectl get` shows."""
        served = self._cluster.kind_named(kind)
        if name:
            namespace = self._namespace(served, namespace)
        found = self._cluster.request(
            "GET",
            served.path(namespace, name),
            what=_title(served, namespace, name) if name else served.plural,
            accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        )
        if found.get("kind") != "Table":
            items = found.get("items", [found])
            return Table(("Name",), tuple((item["metadata"]["name"],) for item in items))
        wide = [column.get("priority", 0) > 0 for column in found["columnDefinitions"]]
        columns = [column["name"] for column, skip in zip(found["columnDefinitions"], wide, strict=True) if not skip]
        rows = []
        several = served.namespaced and not namespace
        for row in found.get("rows") or ():
            cells = [_cell(cell) for cell, skip in zip(row["cells"], wide, strict=True) if not skip]
            owner = ((row.get("object") or {}).get("metadata") or {}).get("namespace", "")
            rows.append(tuple([owner, *cells] if several else cells))
        return Table(tuple(["Namespace", *columns] if several else columns), tuple(rows))

    def delete(self, manifest: Manifest, *, namespace: str | None = None) -> Sequence[Applied]:
        """Delete what a manifest names; what is not there is left out of the answer."""
        deleted = []
        for document in documents(manifest):
            try:
                kind, value = self._located(document.value, namespace)
                deleted.append(self._delete(kind, value["metadata"].get("namespace"), value["metadata"]["name"]))
            except (NotFound, UnknownKind):
                continue
            except KubeError as error:
                raise _at(document, error) from None
        return deleted

    def delete_object(self, kind: str, name: str, *, namespace: str | None = None) -> Applied:
        """Delete one object; NotFound when it is not there."""
        served = self._cluster.kind_named(kind)
        return self._delete(served, self._namespace(served, namespace), name)

    def _delete(self, kind: Kind, namespace: str | None, name: str) -> Applied:
        title, path = _title(kind, namespace, name), kind.path(namespace, name)
        before = self._cluster.request("GET", path, what=title)
        self._cluster.request("DELETE", path, what=title, query={"propagationPolicy": "Background"})
        return Applied(kind.kind, name, namespace, "deleted", before)

    def update_status(self, body: Object, status: Object) -> Object:
        """Write an object's status through its status subresource; returns the object as it is then.

        Conflicts with later changes of the object itself do not count: only the status is written.
        """
        kind = self._cluster.kind_of(body["apiVersion"], body["kind"])
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"], "status")
        # The uid keeps the status of a deleted object off its successor of the same name.
        patch = {"metadata": {"uid": metadata["uid"]} if "uid" in metadata else {}, "status": status}
        return self._cluster.request(
            "PATCH",
            path,
            what=_title(kind, metadata.get("namespace"), metadata["name"]),
            body=patch,
            query={"fieldManager": FIELD_MANAGER},
            content_type="application/merge-patch+json",
        )

    def watch(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Watch:
        """Follow a kind, in one namespace or (without) in all: first a `Listed`, then `Changed` for every change.

        >>> with client.watch("WasmPlugin") as watch:
        ...     for event in watch:
        ...         ...  # from another thread, or here: watch.stop()
        """
        return Watch(
            self._cluster, kind, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )

    def wait_for_ready(self, plugin: Object | Applied, *, timeout: float = 60.0) -> Object:
        """Wait until the gateway runs a WasmPlugin as it was applied; returns it with its status.

        Args:
            plugin: The object as `apply` returned it.
            timeout: How many seconds to wait.

        Raises:
            NotReady: The gateway or the controller refused it, or the time was over.
            NotFound: It was deleted meanwhile.
        """
        body = plugin.object if isinstance(plugin, Applied) else plugin
        metadata = body["metadata"]
        title = f"{body['kind']} {metadata.get('namespace')}/{metadata['name']}"
        watch = self.watch(
            body["kind"], namespace=metadata.get("namespace"), field_selector=f"metadata.name={metadata['name']}"
        )
        alarm = threading.Timer(timeout, watch.stop)
        alarm.daemon = True
        alarm.start()
        last = "the controller has not looked at it yet"
        try:
            for event in watch:
                found = event.objects if isinstance(event, Listed) else (event.object,)
                if not found or (isinstance(event, Changed) and event.type == "DELETED"):
                    raise NotFound(f"{title} was deleted")
                condition = ready_condition(found[0], int(metadata.get("generation") or 0))
                if condition is None:
                    continue
                last = f"{condition.get('reason')}: {condition.get('message')}"
                if condition["status"] == "True":
                    return found[0]
                if condition["status"] == "False":
                    reason = str(condition.get("reason"))
                    raise NotReady(f"{title} is not in effect: {last}", reason=reason, hint=_HINTS.get(reason))
        finally:
            alarm.cancel()
            watch.stop()
        hint = "labkit status shows whether controller, agent and gateway run"
        raise NotReady(f"{title} is not in effect after {timeout:g} s: {last}", hint=hint)

    def _namespace(self, kind: Kind, namespace: str | None) -> str | None:
        return (namespace or self._cluster.namespace) if kind.namespaced else None


_HINTS = {
    "InvalidSpec": "correct the manifest and apply it again",
    "PullFailed": "is the image in the registry under this name? labkit push puts it there",
    "ImageInvalid": "build the image again: labkit build, labkit push",
    "ModuleInvalid": "build the module again: labkit build",
    "Rejected": "labkit logs gateway shows what the plugin said",
    "WrongNamespace": "set metadata.namespace to the gateway's namespace, higress-system",
}


def ready_condition(plugin: Object, generation: int) -> dict[str, Any] | None:
    """The condition Ready of a WasmPlugin, if it is about this generation or a later one."""
    status = plugin.get("status") or {}
    if int(status.get("observedGeneration") or 0) < generation:
        return None
    return next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), None)


def _title(kind: Kind, namespace: str | None, name: str | None) -> str:
    return f"{kind.kind} {f'{namespace}/' if namespace else ''}{name}"


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _at(document: Document, error: KubeError) -> KubeError:
    """The same error with the place in the manifest."""
    if not document.source:
        return error
    error.message = f"{document.source}: {error.message}"
    error.args = (error.message,)
    if isinstance(error, Invalid) and error.problems:
        error.problems = tuple(replace(problem, line=document.line(problem.field)) for problem in error.problems)
        error.details = "\n".join(map(str, error.problems))
        error.hint = error.hint or _field_hint(document, error.problems[0])
    return error


def _field_hint(document: Document, problem: FieldProblem) -> str:
    parent = problem.field.rpartition(".")[0]
    words = ".".join(part.partition("[")[0] for part in parent.split(".") if part)
    path = f"{document.value['kind'].lower()}{f'.{words}' if words else ''}"
    return f"correct it and apply again; kubectl explain {path} lists the fields"
