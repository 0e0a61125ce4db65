"""Schemas of the built-in kinds, read off the kubernetes package's own models.

The models know every field (`attribute_map`), its type (`openapi_types`) and, as pydantic models, its description and
whether it is required; so the server refuses what a real one refuses without a hand-written schema. The package takes
over half a second to import, so nothing here is touched before a schema is first needed.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

Schema = dict[str, Any]

_SCALARS: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "bytes": {"type": "string", "format": "byte"},
    "bytearray": {"type": "string", "format": "byte"},
    "object": {"x-kubernetes-preserve-unknown-fields": True},
}

_LIST_KEYS = {
    ("V1ServiceSpec", "ports"): ["port", "protocol"],
    ("V1ServiceStatus", "conditions"): ["type"],
    ("V1NamespaceStatus", "conditions"): ["type"],
    ("V1ObjectMeta", "ownerReferences"): ["uid"],
    ("V1EndpointSlice", "endpoints"): None,
    ("V1CustomResourceDefinitionStatus", "conditions"): ["type"],
}
"""Keys by which the items of a list are told apart; the models do not carry them."""

_TYPES: dict[tuple[str, str], Schema] = {("V1JSONSchemaProps", "items"): {"$ref": "V1JSONSchemaProps"}}
"""Fields that the models leave open."""

_SETS = {("V1ObjectMeta", "finalizers"), ("V1NamespaceSpec", "finalizers")}


@cache
def model_schema(name: str) -> Schema:
    """The schema of one model, its fields' models as `{"$ref": name}`."""
    from kubernetes import client

    model = getattr(client, name)
    fields = getattr(model, "model_fields", {})
    properties: dict[str, Schema] = {}
    required = []
    for attribute, key in model.attribute_map.items():
        schema = _TYPES.get((name, key)) or _type_schema(model.openapi_types[attribute])
        field = fields.get(attribute)
        if field is not None:
            if field.is_required():
                required.append(key)
            if field.description:
                schema = {"description": field.description, **schema}
            if "StrictInt" in (words := str(field.annotation)) or "int" in words:
                schema = _int_or_string(schema, words)
        if keys := _LIST_KEYS.get((name, key)):
            schema = {**schema, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
        elif (name, key) in _SETS:
            schema = {**schema, "x-kubernetes-list-type": "set"}
        properties[key] = schema
    result: Schema = {"type": "object", "properties": properties}
    if required:
        result["required"] = required
    description = (model.__doc__ or "").partition("Attributes:")[0].strip()
    if description:
        result = {"description": " ".join(description.split()), **result}
    return result


def _int_or_string(schema: Schema, annotation: str) -> Schema:
    """`targetPort` and the like: typed `object` in the models, int or string in their annotation."""
    if "x-kubernetes-preserve-unknown-fields" in schema and "str" in annotation.lower():
        rest = {key: value for key, value in schema.items() if key != "x-kubernetes-preserve-unknown-fields"}
        return {**rest, "x-kubernetes-int-or-string": True}
    return schema


def _type_schema(text: str) -> Schema:
    """The schema of a type as the models spell it: `str`, `V1ObjectMeta`, `List[…]`, `Dict[str, …]`."""
    if text in _SCALARS:
        return dict(_SCALARS[text])
    if match := re.fullmatch(r"[Ll]ist\[(.+)\]", text):
        return {"type": "array", "items": _type_schema(match[1])}
    if match := re.fullmatch(r"[Dd]ict[\[(]\s*str,\s*(.+)[\])]", text):
        return {"type": "object", "additionalProperties": _type_schema(match[1])}
    return {"$ref": text}


def resolve(schema: Schema) -> Schema:
    """The schema itself, or the model's it refers to."""
    return model_schema(schema["$ref"]) if "$ref" in schema else schema


@cache
def metadata_schema() -> Schema:
    """The schema of `metadata`, the same for every kind."""
    return model_schema("V1ObjectMeta")
