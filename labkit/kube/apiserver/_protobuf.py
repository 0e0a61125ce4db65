"""Bodies in Kubernetes' protobuf encoding, which current clients use for `kubectl create namespace` and the like.

Answers are always JSON, which every client takes; so only reading is needed, and only for the kinds that kubectl makes
from the command line. The numbers are those of the kinds' published .proto files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.kube.apiserver._status import bad_request, unsupported_media_type

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class _Field:
    """A field: its JSON name and its type (a scalar's, or a message's name); inline ones make no level in JSON."""

    name: str
    type: str = "string"
    repeated: bool = False
    inline: bool = False


def _many(name: str, kind: str = "string") -> _Field:
    return _Field(name, kind, repeated=True)


_MESSAGES: Mapping[str, Mapping[int, _Field]] = {
    "ObjectMeta": {
        1: _Field("name"),
        2: _Field("generateName"),
        3: _Field("namespace"),
        4: _Field("selfLink"),
        5: _Field("uid"),
        6: _Field("resourceVersion"),
        7: _Field("generation", "int"),
        8: _Field("creationTimestamp", "skip"),
        11: _Field("labels", "map"),
        12: _Field("annotations", "map"),
        14: _many("finalizers"),
        17: _Field("managedFields", "skip"),
    },
    "DeleteOptions": {
        1: _Field("gracePeriodSeconds", "int"),
        2: _Field("preconditions", "Preconditions"),
        3: _Field("orphanDependents", "bool"),
        4: _Field("propagationPolicy"),
        5: _many("dryRun"),
    },
    "Preconditions": {1: _Field("uid"), 2: _Field("resourceVersion")},
    "Namespace": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "NamespaceSpec"), 3: _Field("status", "skip")},
    "NamespaceSpec": {1: _many("finalizers")},
    "ConfigMap": {
        1: _Field("metadata", "ObjectMeta"),
        2: _Field("data", "map"),
        3: _Field("binaryData", "bytesmap"),
        4: _Field("immutable", "bool"),
    },
    "Secret": {
        1: _Field("metadata", "ObjectMeta"),
        2: _Field("data", "bytesmap"),
        3: _Field("type"),
        4: _Field("stringData", "map"),
        5: _Field("immutable", "bool"),
    },
    "Service": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "ServiceSpec"), 3: _Field("status", "skip")},
    "ServiceSpec": {
        1: _many("ports", "ServicePort"),
        2: _Field("selector", "map"),
        3: _Field("clusterIP"),
        4: _Field("type"),
        5: _many("externalIPs"),
        7: _Field("sessionAffinity"),
        8: _Field("loadBalancerIP"),
        9: _many("loadBalancerSourceRanges"),
        10: _Field("externalName"),
        11: _Field("externalTrafficPolicy"),
        12: _Field("healthCheckNodePort", "int"),
        13: _Field("publishNotReadyAddresses", "bool"),
        17: _Field("ipFamilyPolicy"),
        18: _many("clusterIPs"),
        19: _many("ipFamilies"),
        22: _Field("internalTrafficPolicy"),
    },
    "ServicePort": {
        1: _Field("name"),
        2: _Field("protocol"),
        3: _Field("port", "int"),
        4: _Field("targetPort", "IntOrString"),
        5: _Field("nodePort", "int"),
        6: _Field("appProtocol"),
    },
    "IntOrString": {1: _Field("type", "int"), 2: _Field("intVal", "int"), 3: _Field("strVal")},
    "Ingress": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "IngressSpec"), 3: _Field("status", "skip")},
    "IngressSpec": {
        1: _Field("defaultBackend", "IngressBackend"),
        2: _many("tls", "IngressTLS"),
        3: _many("rules", "IngressRule"),
        4: _Field("ingressClassName"),
    },
    "IngressTLS": {1: _many("hosts"), 2: _Field("secretName")},
    "IngressRule": {1: _Field("host"), 2: _Field("", "IngressRuleValue", inline=True)},
    "IngressRuleValue": {1: _Field("http", "HTTPIngressRuleValue")},
    "HTTPIngressRuleValue": {1: _many("paths", "HTTPIngressPath")},
    "HTTPIngressPath": {1: _Field("path"), 2: _Field("backend", "IngressBackend"), 3: _Field("pathType")},
    "IngressBackend": {4: _Field("service", "IngressServiceBackend")},
    "IngressServiceBackend": {1: _Field("name"), 2: _Field("port", "ServiceBackendPort")},
    "ServiceBackendPort": {1: _Field("name"), 2: _Field("number", "int")},
}

_TOP_LEVEL = ("DeleteOptions", "Namespace", "ConfigMap", "Secret", "Service", "Ingress")


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body, in its JSON form."""
    if not body.startswith(_MAGIC):
        raise bad_request("the object provided is unrecognized: no Kubernetes protobuf")
    try:
        envelope = {number: value for number, _, value in _wire(body[len(_MAGIC) :])}
        header = {number: _part(value).decode() for number, _, value in _wire(_part(envelope.get(1)))}
        api_version, kind = header.get(1, ""), header.get(2, "")
        if kind not in _TOP_LEVEL:
            raise unsupported_media_type(f"{MEDIA_TYPE} ({kind})", "application/json, application/yaml")
        return {"apiVersion": api_version, "kind": kind, **_message(_part(envelope.get(2)), kind)}
    except (ValueError, TypeError, IndexError) as error:
        raise bad_request(f"the object provided is unrecognized: malformed protobuf: {error}") from None


def _part(value: int | bytes | None) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("a part is missing")


def _wire(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """The fields of a message: number, wire type, value."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _read_varint(data, position)
            yield number, wire_type, value
            continue
        if wire_type == _BYTES:
            length, position = _read_varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > len(data):
            raise ValueError("it ends too early")
        yield number, wire_type, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number is too long")


def _message(data: bytes, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, _, raw in _wire(data):
        field = _MESSAGES[name].get(number)
        if field is None:
            raise ValueError(f"field {number} of {name} is not read here; send JSON")
        if field.type == "skip":
            continue
        if field.type in ("map", "bytesmap"):
            key, value = _entry(_part(raw), encoded=field.type == "bytesmap")
            found.setdefault(field.name, {})[key] = value
            continue
        value = _value(raw, field.type)
        if field.inline:
            found.update(value)
        elif field.repeated:
            found.setdefault(field.name, []).append(value)
        # The encoding writes empty strings and zeros of fields that were never set.
        elif value not in ("", 0, False):
            found[field.name] = value
    return found


def _value(raw: int | bytes, kind: str) -> Any:
    if kind in ("int", "bool"):
        if not isinstance(raw, int):
            raise ValueError("a number is not one")
        signed = raw - (1 << 64) if raw >= 1 << 63 else raw
        return bool(raw) if kind == "bool" else signed
    if kind == "string":
        return _part(raw).decode()
    found = _message(_part(raw), kind)
    if kind == "IntOrString":
        return found.get("strVal", "") if found.get("type") else found.get("intVal", 0)
    return found


def _entry(data: bytes, *, encoded: bool) -> tuple[str, str]:
    parts = {number: _part(value) for number, _, value in _wire(data)}
    value = parts.get(2, b"")
    return parts.get(1, b"").decode(), base64.b64encode(value).decode() if encoded else value.decode()
