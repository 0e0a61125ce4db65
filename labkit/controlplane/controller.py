"""The controller's core: from the resources it has seen to a snapshot and to what each WasmPlugin's status says.

No I/O but the journal: resources come in through `replace` and `change`, snapshots and statuses go out.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from labkit.controlplane import services as kube_services
from labkit.controlplane.extension import extension
from labkit.controlplane.listener import listener
from labkit.controlplane.routes import route_configuration
from labkit.controlplane.session import Answer
from labkit.controlplane.snapshot import EXTENSION, Snapshot
from labkit.controlplane.status import Condition, Reason, condition_from_answer
from labkit.controlplane.wasmplugin import InvalidSpec, KubeObject, Plugin, filter_order, read_plugin
from labkit.events import Journal

log = logging.getLogger(__name__)

KINDS = ("Ingress", "Service", "EndpointSlice", "Secret", "WasmPlugin")
"""The kinds the controller watches."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known about one WasmPlugin resource.

    Attributes:
        plugin: The newest spec of it that was valid; None when none was.
        generation: The newest generation seen.
        refusal: Why the newest generation was refused; None when it was accepted.
        credentials: The registry credentials that belong to `plugin`.
    """

    plugin: Plugin | None
    generation: int
    refusal: Condition | None = None
    credentials: str = ""


class Controller:
    """Turns resources into snapshots, and clients' answers into statuses.

    Args:
        namespace: The only namespace whose WasmPlugins are installed.
        gateway_port: Where the gateway listens.
        journal: Where step 5 is written.
    """

    def __init__(self, namespace: str, gateway_port: int, journal: Journal) -> None:
        self._namespace = namespace
        self._gateway_port = gateway_port
        self._journal = journal
        self._objects: dict[str, dict[Key, KubeObject]] = {kind: {} for kind in KINDS}
        self._listed: set[str] = set()
        self._standings: dict[Key, Standing] = {}
        self._recorded: dict[Key, tuple[Any, ...]] = {}
        self._answers: dict[str, tuple[str, str | None]] = {}
        self._snapshot = Snapshot()

    @property
    def is_synced(self) -> bool:
        """Whether every kind has been listed: before that, a snapshot would take away what exists."""
        return self._listed == set(KINDS)

    def replace(self, kind: str, objects: Iterable[KubeObject]) -> None:
        """Take a complete listing of a kind."""
        self._objects[kind] = {_key(item): item for item in objects}
        self._listed.add(kind)

    def change(self, kind: str, event: str, resource: KubeObject) -> None:
        """Take one watch event: ADDED, MODIFIED or DELETED."""
        if event == "DELETED":
            self._objects[kind].pop(_key(resource), None)
        else:
            self._objects[kind][_key(resource)] = resource

    def answered(self, answer: Answer) -> None:
        """Take a client's answer about plugins."""
        if answer.type_url == EXTENSION:
            for name, version in answer.versions.items():
                self._answers[name] = (version, answer.error)

    def snapshot(self) -> Snapshot:
        """Everything the gateway should have now."""
        self._read_plugins()
        self._snapshot = Snapshot(self._resources())
        return self._snapshot

    def statuses(self) -> Iterator[tuple[KubeObject, list[Condition]]]:
        """Every WasmPlugin resource with the conditions its status should have."""
        for key, resource in self._objects["WasmPlugin"].items():
            standing = self._standings.get(key)
            if standing is not None:
                yield resource, list(self._conditions(standing))

    def _resources(self) -> Iterator[Message]:
        ports = kube_services.ServicePorts(self._safe("Service"))
        slices = kube_services.slices_by_service(self._safe("EndpointSlice"))
        for port in ports.ports.values():
            yield kube_services.cluster(port)
            if not port.external_name:
                yield kube_services.endpoints(port, slices.get((port.namespace, port.service), ()))
        yield route_configuration(self._safe("Ingress"), ports)
        installed = [
            (standing.plugin, standing.credentials)
            for standing in self._standings.values()
            if standing.plugin and standing.plugin.config is not None
        ]
        installed.sort(key=lambda pair: filter_order(pair[0]))
        yield listener(self._gateway_port, [plugin.resource_name for plugin, _ in installed])
        for plugin, credentials in installed:
            yield extension(plugin, credentials)

    def _safe(self, kind: str) -> list[KubeObject]:
        """The objects of a kind that are at least shaped like one."""
        return [item for _, item in sorted(self._objects[kind].items()) if _is_well_formed(kind, item)]

    def _read_plugins(self) -> None:
        resources = self._objects["WasmPlugin"]
        for key in self._standings.keys() - resources.keys():
            gone = self._standings.pop(key)
            self._recorded.pop(key, None)
            if gone.plugin:
                self._answers.pop(gone.plugin.resource_name, None)
        for key, resource in sorted(resources.items()):
            before = self._standings.get(key)
            after = self._standing(key, resource, before)
            self._standings[key] = after
            self._record(key, resource, after)

    def _standing(self, key: Key, resource: KubeObject, before: Standing | None) -> Standing:
        generation = int((resource.get("metadata") or {}).get("generation") or 0)
        if key[0] != self._namespace:
            hint = f"plugins are taken from namespace {self._namespace} only; create it there instead"
            return Standing(None, generation, Condition("False", Reason.WRONG_NAMESPACE, hint))
        try:
            plugin = read_plugin(resource)
            return Standing(plugin, generation, credentials=self._pull_secret(plugin) if plugin.pull_secret else "")
        except InvalidSpec as error:
            problem = str(error)
        except Exception as error:  # A garbage object must not take the others down with it.
            log.exception("cannot read WasmPlugin %s/%s", *key)
            problem = f"cannot be read: {error!r}"
        last = before.plugin if before else None
        serving = f"; generation {last.generation} keeps serving" if last else ""
        refusal = Condition("False", Reason.INVALID_SPEC, problem + serving)
        return Standing(last, generation, refusal, before.credentials if before else "")

    def _record(self, key: Key, resource: KubeObject, standing: Standing) -> None:
        metadata = resource.get("metadata") or {}
        refused = standing.refusal.message if standing.refusal else None
        mark = (metadata.get("uid"), standing.generation, refused)
        if self._recorded.get(key) == mark:
            return
        self._recorded[key] = mark
        plugin = standing.plugin
        data: dict[str, Any] = {"resource_version": metadata.get("resourceVersion")}
        if plugin and not refused:
            data |= {"url": plugin.url, "rules": plugin.rules, "config": plugin.config}
            data |= {"phase": plugin.phase.name, "priority": plugin.priority}
        self._journal.record(
            5, part="controlplane", plugin="/".join(key), generation=standing.generation, error=refused, **data
        )

    def _pull_secret(self, plugin: Plugin) -> str:
        """The registry credentials of the Secret a plugin names, as the text of `.dockerconfigjson`."""
        path = "spec.imagePullSecret"
        secret = self._objects["Secret"].get((plugin.namespace, plugin.pull_secret))
        if secret is None:
            raise InvalidSpec(path, f"there is no Secret {plugin.namespace}/{plugin.pull_secret}")
        encoded = (secret.get("data") or {}).get(".dockerconfigjson")
        if not encoded:
            raise InvalidSpec(
                path, f"Secret {plugin.pull_secret} has no .dockerconfigjson (type kubernetes.io/dockerconfigjson)"
            )
        try:
            text = base64.b64decode(encoded, validate=True).decode()
            json.loads(text)
        except (binascii.Error, ValueError):
            raise InvalidSpec(path, f"Secret {plugin.pull_secret}: .dockerconfigjson is not JSON in base64") from None
        return text

    def _conditions(self, standing: Standing) -> Iterator[Condition]:
        plugin = standing.plugin
        if standing.refusal:
            yield standing.refusal
        elif plugin is None or plugin.config is None:
            yield Condition(
                "True",
                Reason.LOADED,
                "nothing to run: the default configuration and every rule are disabled, so it is not installed",
            )
        else:
            resource = self._snapshot.resources(EXTENSION).get(plugin.resource_name)
            version, error = self._answers.get(plugin.resource_name, ("", None))
            if resource is None or version != resource.version:
                yield Condition("Unknown", Reason.PENDING, "waiting for the gateway")
            else:
                yield condition_from_answer(error)
        if plugin and plugin.remarks and not standing.refusal:
            yield Condition("False", "GRPCRouteNotServed", "; ".join(plugin.remarks), type="RouteTypesServed")


def _key(resource: KubeObject) -> Key:
    metadata = resource.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _is_well_formed(kind: str, resource: KubeObject) -> bool:
    """Whether the conversion can use the object; the check is the conversion of this object alone."""
    try:
        if kind == "Service":
            for port in kube_services.service_ports(resource):
                kube_services.cluster(port)
        elif kind == "EndpointSlice":
            for slices in kube_services.slices_by_service([resource]).values():
                for entry in resource.get("ports") or ():
                    name = str(entry.get("name") or "")
                    kube_services.endpoints(kube_services.ServicePort("", "", 1, name), slices)
        elif kind == "Ingress":
            route_configuration([resource], kube_services.ServicePorts(()))
    except Exception as error:  # Whatever is wrong with it, the others must keep being served.
        log.warning("%s %s/%s is left out: %r", kind, *_key(resource), error)
        return False
    return isinstance(resource, Mapping)
