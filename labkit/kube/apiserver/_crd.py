"""CustomResourceDefinitions: defaults, conditions, and whether the schema in them can be served."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from labkit.kube.apiserver._metadata import now
from labkit.kube.apiserver._schema import validate
from labkit.kube.apiserver._status import Cause
from labkit.kube.apiserver._store import Object

_TYPES = ("array", "boolean", "integer", "number", "object", "string")


def finish_crd(body: Object, old: Object | None) -> None:
    """Fill in names and conversion, and the conditions that say the kind is served."""
    spec = body["spec"]
    names = spec["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})
    status = body.setdefault("status", {})
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    known = status.get("storedVersions") or []
    since = now()
    body["status"] = {
        "acceptedNames": names,
        "storedVersions": [*known, *(name for name in stored if name not in known)],
        "conditions": status.get("conditions")
        or [
            {
                "type": "NamesAccepted",
                "status": "True",
                "reason": "NoConflicts",
                "message": "no conflicts found",
                "lastTransitionTime": since,
            },
            {
                "type": "Established",
                "status": "True",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
                "lastTransitionTime": since,
            },
        ],
    }


def crd_problems(body: Object, old: Object | None) -> Iterator[Cause]:
    """What keeps a CustomResourceDefinition from being served."""
    spec = body["spec"]
    names = spec["names"]
    expected = f"{names['plural']}.{spec['group']}"
    if body["metadata"]["name"] != expected:
        message = f'Invalid value: "{body["metadata"]["name"]}": must be spec.names.plural+"."+spec.group'
        yield Cause("metadata.name", message)
    if "." not in spec["group"]:
        yield Cause("spec.group", f'Invalid value: "{spec["group"]}": should be a domain with at least one dot')
    if spec["scope"] not in ("Cluster", "Namespaced"):
        message = f'Unsupported value: "{spec["scope"]}": supported values: "Cluster", "Namespaced"'
        yield Cause("spec.scope", message, "FieldValueNotSupported")
    if old:
        for path, before, after in (
            ("spec.group", old["spec"]["group"], spec["group"]),
            ("spec.names.kind", old["spec"]["names"]["kind"], names["kind"]),
            ("spec.scope", old["spec"]["scope"], spec["scope"]),
        ):
            if before != after:
                yield Cause(path, f'Invalid value: "{after}": field is immutable')
    if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
        message = "Invalid value: must have exactly one version marked as storage version"
        yield Cause("spec.versions", message)
    for index, version in enumerate(spec["versions"]):
        path = f"spec.versions[{index}]"
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", version["name"]):
            yield Cause(f"{path}.name", f'Invalid value: "{version["name"]}": a DNS-1035 label is needed')
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield Cause(f"{path}.schema.openAPIV3Schema", "Required value: schemas are required", "FieldValueRequired")
        else:
            where = f"{path}.schema.openAPIV3Schema"
            if schema.get("type") != "object":
                message = f'Invalid value: "{schema.get("type", "")}": must be object at the root'
                yield Cause(f"{where}.type", message)
            yield from _schema_problems(schema, where)
        for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
            if not column["jsonPath"].startswith("."):
                where = f"{path}.additionalPrinterColumns[{number}].jsonPath"
                yield Cause(where, f'Invalid value: "{column["jsonPath"]}": is not a simple json path')


def _schema_problems(schema: dict[str, Any], path: str) -> Iterator[Cause]:
    kind = schema.get("type")
    exempt = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if kind is None and not exempt:
        yield Cause(
            f"{path}.type", "Required value: must not be empty for specified object fields", "FieldValueRequired"
        )
    elif kind is not None and kind not in _TYPES:
        supported = ", ".join(f'"{name}"' for name in _TYPES)
        yield Cause(
            f"{path}.type", f'Unsupported value: "{kind}": supported values: {supported}', "FieldValueNotSupported"
        )
    if "$ref" in schema:
        yield Cause(f"{path}.$ref", "Forbidden: $ref is not supported", "FieldValueForbidden")
    if kind == "array" and not schema.get("items"):
        yield Cause(f"{path}.items", "Required value: must be specified", "FieldValueRequired")
    if schema.get("properties") and schema.get("additionalProperties"):
        message = "Forbidden: additionalProperties and properties are mutual exclusive"
        yield Cause(f"{path}.additionalProperties", message, "FieldValueForbidden")
    if pattern := schema.get("pattern"):
        try:
            re.compile(pattern)
        except re.error as error:
            yield Cause(f"{path}.pattern", f'Invalid value: "{pattern}": {error}')
    for name, below in (schema.get("properties") or {}).items():
        yield from _schema_problems(below, f"{path}.properties[{name}]")
    if isinstance(items := schema.get("items"), dict):
        yield from _schema_problems(items, f"{path}.items")
    if isinstance(additional := schema.get("additionalProperties"), dict):
        # The models leave this field open, so nothing has checked it so far.
        if malformed := validate(additional, {"$ref": "V1JSONSchemaProps"}, f"{path}.additionalProperties"):
            yield from malformed
            return
        yield from _schema_problems(additional, f"{path}.additionalProperties")
