"""The OpenAPI v2 document in protobuf (openapi.v2.Document), which kubectl before 1.27 asks for.

Only the parts of the message that such a kubectl reads are written: definitions, and per operation the parameters and
extensions by which it finds out whether dry runs are served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labkit.kube.apiserver._models import Schema


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Encode an OpenAPI v2 document."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = b"".join(_named(2, path, _path_item(item)) for path, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(schema)) for name, schema in document["definitions"].items())
    return _text(1, document["swagger"]) + _bytes(2, info) + _bytes(8, paths) + _bytes(9, definitions)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _named(number: int, name: str, payload: bytes) -> bytes:
    """An entry of a map as the format spells it: a message with name and value."""
    return _bytes(number, _text(1, name) + _bytes(2, payload))


def _any(value: Any) -> bytes:
    # JSON is YAML, which this message holds as text.
    return _text(2, json.dumps(value))


def _extensions(number: int, node: Mapping[str, Any]) -> bytes:
    return b"".join(_named(number, key, _any(value)) for key, value in node.items() if key.startswith("x-"))


def _path_item(item: Mapping[str, Any]) -> bytes:
    numbers = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
    return b"".join(_bytes(numbers[method], _operation(operation)) for method, operation in item.items())


def _operation(operation: Mapping[str, Any]) -> bytes:
    out = _text(5, operation["operationId"])
    for parameter in operation.get("parameters", ()):
        query = _text(2, "query") + _text(4, parameter["name"]) + _text(6, "string")
        # ParametersItem.parameter -> Parameter.non_body_parameter -> NonBodyParameter.query_parameter_sub_schema
        out += _bytes(8, _bytes(1, _bytes(2, _bytes(3, query))))
    responses = b"".join(
        _named(1, code, _bytes(1, _text(1, answer["description"]))) for code, answer in operation["responses"].items()
    )
    return out + _bytes(9, responses) + _extensions(13, operation)


def _schema(schema: Schema) -> bytes:
    if "$ref" in schema:
        return _text(1, schema["$ref"])
    out = b""
    for number, key in ((2, "format"), (4, "description"), (13, "pattern")):
        if schema.get(key):
            out += _text(number, schema[key])
    for name in schema.get("required") or ():
        out += _text(19, name)
    for value in schema.get("enum") or ():
        out += _bytes(20, _any(value))
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        out += _bytes(21, _bytes(1, _schema(additional)))
    elif additional is True:
        out += _bytes(21, _integer(2, 1))
    if schema.get("type"):
        out += _bytes(22, _text(1, schema["type"]))
    if schema.get("items"):
        out += _bytes(23, _bytes(1, _schema(schema["items"])))
    if properties := schema.get("properties"):
        out += _bytes(25, b"".join(_named(1, name, _schema(below)) for name, below in properties.items()))
    return out + _extensions(31, schema)
