"""What a schema says about an object: unknown fields, wrong values, defaults.

Works on structural schemas (a CustomResourceDefinition's openAPIV3Schema) and on the same form made from the built-in
kinds' models. Messages and their order follow a real API server.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from labkit.kube.apiserver._models import Schema, resolve
from labkit.kube.apiserver._status import Cause

_EMBEDDED = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}


def _fields(schema: Schema) -> Mapping[str, Schema]:
    properties: Mapping[str, Schema] = schema.get("properties") or {}
    if schema.get("x-kubernetes-embedded-resource"):
        return {**_EMBEDDED, **properties}
    return properties


def _open(schema: Schema) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields")) or (
        not schema.get("type") and not schema.get("properties") and not schema.get("x-kubernetes-int-or-string")
    )


def prune(value: Any, schema: Schema, path: str = "") -> list[str]:
    """Remove the fields the schema does not know, in place.

    Returns:
        The path of each removed field, such as `spec.matchRules[0].foo`.
    """
    schema = resolve(schema)
    unknown: list[str] = []
    if isinstance(value, list):
        items = schema.get("items")
        if items:
            for index, item in enumerate(value):
                unknown += prune(item, items, f"{path}[{index}]")
    elif isinstance(value, dict):
        properties, additional = _fields(schema), schema.get("additionalProperties")
        for key in list(value):
            below = f"{path}.{key}" if path else key
            if key in properties:
                unknown += prune(value[key], properties[key], below)
            elif isinstance(additional, dict):
                unknown += prune(value[key], additional, below)
            elif additional is not True and not _open(schema):
                del value[key]
                unknown.append(below)
    return unknown


def drop_nulls(value: Any, schema: Schema) -> None:
    """Remove null fields, in place, unless the schema says nullable: the API takes null for absent."""
    schema = resolve(schema)
    if isinstance(value, list) and schema.get("items"):
        for item in value:
            drop_nulls(item, schema["items"])
    elif isinstance(value, dict):
        properties, additional = _fields(schema), schema.get("additionalProperties")
        for key in list(value):
            below = properties.get(key) or (additional if isinstance(additional, dict) else None)
            if below is None:
                continue
            if value[key] is None and not below.get("nullable"):
                del value[key]
            else:
                drop_nulls(value[key], below)


def apply_defaults(value: Any, schema: Schema) -> None:
    """Fill in the schema's defaults, in place."""
    schema = resolve(schema)
    if isinstance(value, list) and schema.get("items"):
        for item in value:
            apply_defaults(item, schema["items"])
    elif isinstance(value, dict):
        properties, additional = _fields(schema), schema.get("additionalProperties")
        for key, wanted in properties.items():
            if key not in value and "default" in wanted:
                value[key] = copy.deepcopy(wanted["default"])
        for key, item in value.items():
            below = properties.get(key) or (additional if isinstance(additional, dict) else None)
            if below:
                apply_defaults(item, below)


def validate(value: Any, schema: Schema, path: str = "") -> list[Cause]:
    """Everything in a value that its schema forbids."""
    return list(_problems(value, resolve(schema), path))


def _problems(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    if value is None and schema.get("nullable"):
        return
    wrong = _type_problem(value, schema, path)
    if wrong:
        yield wrong
        return
    yield from _value_problems(value, schema, path)
    if isinstance(value, str):
        yield from _string_problems(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_problems(value, schema, path)
    elif isinstance(value, list):
        yield from _list_problems(value, schema, path)
    elif isinstance(value, dict):
        yield from _object_problems(value, schema, path)
    yield from _combined_problems(value, schema, path)


def type_name(value: Any) -> str:
    """The JSON type of a value, as messages call it."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


def _type_problem(value: Any, schema: Schema, path: str) -> Cause | None:
    actual = type_name(value)
    if schema.get("x-kubernetes-int-or-string"):
        wanted, fits = "integer,string", actual in ("integer", "string")
    else:
        wanted = schema.get("type", "")
        fits = not wanted or actual == wanted or (wanted == "number" and actual == "integer")
        fits = fits or (value is None and _open(schema))
    if fits:
        return None
    message = f'Invalid value: "{actual}": {path} in body must be of type {wanted}: "{actual}"'
    return Cause(path, message, "FieldValueTypeInvalid")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _body(path: str, value: Any, words: str) -> Cause:
    return Cause(path, f"Invalid value: {_shown(value)}: {path} in body {words}")


def _value_problems(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    allowed = schema.get("enum")
    if allowed is not None and value not in allowed:
        supported = ", ".join(_shown(item) for item in allowed)
        message = f"Unsupported value: {_shown(value)}: supported values: {supported}"
        yield Cause(path, message, "FieldValueNotSupported")


def _string_problems(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if (limit := schema.get("minLength")) is not None and len(value) < limit:
        yield _body(path, value, f"should be at least {limit} chars long")
    if (limit := schema.get("maxLength")) is not None and len(value) > limit:
        yield Cause(path, f"Too long: may not be more than {limit} bytes", "FieldValueTooLong")
    if (pattern := schema.get("pattern")) and not _compiled(pattern).search(value):
        yield _body(path, value, f"should match '{pattern}'")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _number_problems(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        yield _body(path, value, "must be of type int32")
    elif schema.get("type") == "integer" and not -(2**63) <= value < 2**63:
        yield _body(path, value, "must be of type int64")
    if (limit := schema.get("minimum")) is not None:
        exclusive = bool(schema.get("exclusiveMinimum"))
        if value < limit or (exclusive and value == limit):
            yield _body(path, value, f"should be greater than {'' if exclusive else 'or equal to '}{limit}")
    if (limit := schema.get("maximum")) is not None:
        exclusive = bool(schema.get("exclusiveMaximum"))
        if value > limit or (exclusive and value == limit):
            yield _body(path, value, f"should be less than {'' if exclusive else 'or equal to '}{limit}")
    if (factor := schema.get("multipleOf")) and value % factor:
        yield _body(path, value, f"should be a multiple of {factor}")


def _list_problems(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    if (limit := schema.get("minItems")) is not None and len(value) < limit:
        yield _body(path, len(value), f"should have at least {limit} items")
    if (limit := schema.get("maxItems")) is not None and len(value) > limit:
        yield Cause(path, f"Too many: {len(value)}: must have at most {limit} items", "FieldValueTooMany")
    items = schema.get("items")
    if items:
        for index, item in enumerate(value):
            yield from _problems(item, resolve(items), f"{path}[{index}]")
    yield from _duplicates(value, schema, path)


def _duplicates(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    kind = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if kind not in ("set", "map") and not schema.get("uniqueItems"):
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        identity = {key: item.get(key) for key in keys} if kind == "map" and isinstance(item, dict) else item
        text = json.dumps(identity, sort_keys=True)
        if text in seen:
            yield Cause(f"{path}[{index}]", f"Duplicate value: {_shown(identity)}", "FieldValueDuplicate")
        seen.add(text)


def _object_problems(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Cause]:
    for key in schema.get("required") or []:
        if key not in value:
            yield Cause(f"{path}.{key}" if path else key, "Required value", "FieldValueRequired")
    if (limit := schema.get("minProperties")) is not None and len(value) < limit:
        yield _body(path, len(value), f"should have at least {limit} properties")
    if (limit := schema.get("maxProperties")) is not None and len(value) > limit:
        yield Cause(path, f"Too many: {len(value)}: must have at most {limit} items", "FieldValueTooMany")
    properties, additional = _fields(schema), schema.get("additionalProperties")
    for key, item in value.items():
        below = properties.get(key) or (additional if isinstance(additional, dict) else None)
        if below:
            yield from _problems(item, resolve(below), f"{path}.{key}" if path else key)


def _combined_problems(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    for part in schema.get("allOf") or []:
        yield from _problems(value, part, path)
    if (parts := schema.get("anyOf")) and all(validate(value, part, path) for part in parts):
        yield _body(path, value, "must validate at least one schema (anyOf)")
    if (parts := schema.get("oneOf")) and sum(not validate(value, part, path) for part in parts) != 1:
        yield _body(path, value, "must validate one and only one schema (oneOf)")
    if (part := schema.get("not")) and not validate(value, part, path):
        yield _body(path, value, "must not validate the schema (not)")
