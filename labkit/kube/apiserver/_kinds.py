"""What single built-in kinds need beyond their schema: defaults, allocated values, validation."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from labkit.kube.apiserver._crd import crd_problems, finish_crd
from labkit.kube.apiserver._status import Cause
from labkit.kube.apiserver._store import Object


def finish(key: str, body: Object, old: Object | None) -> None:
    """Fill in the defaults of one built-in kind, in place."""
    if key in _FINISHERS:
        _FINISHERS[key](body, old)


def problems(key: str, body: Object, old: Object | None) -> list[Cause]:
    """What the kind forbids beyond its schema."""
    return list(_CHECKS[key](body, old)) if key in _CHECKS else []


def _finish_namespace(body: Object, old: Object | None) -> None:
    labels = body["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = body["metadata"]["name"]
    body.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    if old is None:
        body["status"] = {"phase": "Active"}


def _finish_service(body: Object, old: Object | None) -> None:
    spec = body.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if spec["type"] != "ExternalName":
            port.setdefault("targetPort", port["port"])
    if spec["type"] == "ExternalName":
        return
    before = (old or {}).get("spec", {})
    if not spec.get("clusterIP"):
        spec["clusterIP"] = before.get("clusterIP") or _cluster_ip(body["metadata"])
    spec["clusterIPs"] = [spec["clusterIP"]]
    spec.setdefault("internalTrafficPolicy", "Cluster")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    body.setdefault("status", {"loadBalancer": {}})


def _cluster_ip(metadata: dict[str, Any]) -> str:
    """An address for show: nothing in the lab routes cluster IPs, endpoints are real."""
    digest = hashlib.sha256(f"{metadata.get('namespace')}/{metadata['name']}".encode()).digest()
    return f"10.96.{digest[0]}.{digest[1] % 254 + 1}"


def _finish_secret(body: Object, old: Object | None) -> None:
    body.setdefault("type", "Opaque")
    plain = body.pop("stringData", None)
    if plain:
        data = body.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(value.encode()).decode()


def _finish_ingress(body: Object, old: Object | None) -> None:
    body.setdefault("status", {"loadBalancer": {}})


def _check_secret(body: Object, old: Object | None) -> Iterator[Cause]:
    for key, value in (body.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error as error:
            yield Cause(f"data[{key}]", f"Invalid value: not base64: {error}")
    if old and old.get("immutable") and (old.get("data") != body.get("data") or not body.get("immutable")):
        yield Cause("data", "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")
    if old and old.get("type") != body.get("type"):
        yield Cause("type", f'Invalid value: "{body.get("type")}": field is immutable')


def _check_config_map(body: Object, old: Object | None) -> Iterator[Cause]:
    if old and old.get("immutable") and (old.get("data") != body.get("data") or not body.get("immutable")):
        yield Cause("data", "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")


_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def _check_service(body: Object, old: Object | None) -> Iterator[Cause]:
    spec = body["spec"]
    if spec["type"] not in _SERVICE_TYPES:
        supported = ", ".join(f'"{name}"' for name in _SERVICE_TYPES)
        message = f'Unsupported value: "{spec["type"]}": supported values: {supported}'
        yield Cause("spec.type", message, "FieldValueNotSupported")
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        yield Cause("spec.ports", "Required value", "FieldValueRequired")
    if old and old["spec"].get("clusterIP") and spec.get("clusterIP") != old["spec"]["clusterIP"]:
        yield Cause("spec.clusterIPs[0]", f'Invalid value: ["{spec.get("clusterIP")}"]: may not change once set')
    seen: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        if not 1 <= port["port"] <= 65535:
            yield Cause(f"{path}.port", f"Invalid value: {port['port']}: must be between 1 and 65535, inclusive")
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            message = f'Unsupported value: "{port["protocol"]}": supported values: "SCTP", "TCP", "UDP"'
            yield Cause(f"{path}.protocol", message, "FieldValueNotSupported")
        if len(ports) > 1 and not port.get("name"):
            yield Cause(f"{path}.name", "Required value", "FieldValueRequired")
        if (port["port"], port["protocol"]) in seen:
            shown = f'{{"protocol":"{port["protocol"]}","port":{port["port"]}}}'
            yield Cause(path, f"Duplicate value: {shown}", "FieldValueDuplicate")
        seen.add((port["port"], port["protocol"]))


def _check_ingress(body: Object, old: Object | None) -> Iterator[Cause]:
    spec = body.get("spec") or {}
    if not spec.get("rules") and not spec.get("defaultBackend"):
        yield Cause("spec", "Invalid value: {}: either `defaultBackend` or `rules` must be specified")
    for index, rule in enumerate(spec.get("rules") or []):
        for number, path in enumerate((rule.get("http") or {}).get("paths") or []):
            where = f"spec.rules[{index}].http.paths[{number}]"
            kind = path.get("pathType")
            if kind not in ("Exact", "ImplementationSpecific", "Prefix"):
                message = f'Unsupported value: "{kind}": supported values: "Exact", "ImplementationSpecific", "Prefix"'
                yield Cause(f"{where}.pathType", message, "FieldValueNotSupported")
            text = path.get("path", "")
            if kind in ("Exact", "Prefix") and not text.startswith("/"):
                yield Cause(f"{where}.path", f'Invalid value: "{text}": must be an absolute path')
            backend = path.get("backend") or {}
            if bool(backend.get("service")) == bool(backend.get("resource")):
                message = "Invalid value: cannot set both, nor leave out both, of `service` and `resource`"
                yield Cause(f"{where}.backend", message)
            port = (backend.get("service") or {}).get("port") or {}
            if backend.get("service") and ("name" in port) == ("number" in port):
                message = "Required value: port name or number is required"
                yield Cause(f"{where}.backend.service.port", message, "FieldValueRequired")


def _check_endpoint_slice(body: Object, old: Object | None) -> Iterator[Cause]:
    if body.get("addressType") not in ("IPv4", "IPv6", "FQDN"):
        message = f'Unsupported value: "{body.get("addressType")}": supported values: "FQDN", "IPv4", "IPv6"'
        yield Cause("addressType", message, "FieldValueNotSupported")
    if old and old.get("addressType") != body.get("addressType"):
        yield Cause("addressType", f'Invalid value: "{body.get("addressType")}": field is immutable')


_FINISHERS: dict[str, Callable[[Object, Object | None], None]] = {
    "namespaces": _finish_namespace,
    "services": _finish_service,
    "secrets": _finish_secret,
    "ingresses.networking.k8s.io": _finish_ingress,
    "customresourcedefinitions.apiextensions.k8s.io": finish_crd,
}

_CHECKS: dict[str, Callable[[Object, Object | None], Iterator[Cause]]] = {
    "secrets": _check_secret,
    "configmaps": _check_config_map,
    "services": _check_service,
    "ingresses.networking.k8s.io": _check_ingress,
    "endpointslices.discovery.k8s.io": _check_endpoint_slice,
    "customresourcedefinitions.apiextensions.k8s.io": crd_problems,
}
