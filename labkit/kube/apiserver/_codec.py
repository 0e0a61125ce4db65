"""Bodies in: JSON, YAML and protobuf from strangers, bounded in size, depth and number of nodes."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import yaml

from labkit.kube.apiserver import _protobuf
from labkit.kube.apiserver._status import bad_request, unsupported_media_type

MAX_BYTES = 3 * 1024 * 1024
"""The same limit as a real API server's."""

_MAX_DEPTH = 128
_MAX_NODES = 200_000
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_YAML):  # type: ignore[misc, valid-type]
    """YAML as Kubernetes reads it: a date stays the string that was written."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _YAML.yaml_implicit_resolvers.items()
}


def decode(body: bytes, content_type: str) -> Any:
    """The value in a request's body.

    Args:
        body: The bytes, already known to be within `MAX_BYTES`.
        content_type: The header; nothing or `*/*` counts as JSON.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media in ("", "*/*") or media == "application/json" or media.endswith("+json"):
        value = _json(body)
    elif media in ("application/yaml", "text/yaml", "application/x-yaml") or media.endswith("+yaml"):
        value = _yaml(body)
    elif media == _protobuf.MEDIA_TYPE:
        value = _protobuf.decode(body)
    else:
        raise unsupported_media_type(media, "application/json, application/yaml")
    _check_bounds(value)
    return value


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise bad_request(f"the object provided is unrecognized: invalid JSON: {error}") from None
    # Escaped lone surrogates survive the parser, and could be neither stored nor sent.
    if b"\\ud" in body.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            raise bad_request("the object provided is unrecognized: invalid Unicode in a string") from None
    return value


def _yaml(body: bytes) -> Any:
    try:
        _check_yaml_depth(body)
        value = yaml.load(body, Loader=_PlainLoader)
    except RecursionError:
        raise _too_deep() from None
    except (yaml.YAMLError, ValueError) as error:
        raise bad_request(
            f"the object provided is unrecognized: invalid YAML: {' '.join(str(error).split())}"
        ) from None
    return value


def _check_yaml_depth(body: bytes) -> None:
    """Refuse deep nesting while it is only a stream of events: composing it would exhaust the C stack."""
    depth = 0
    for event in yaml.parse(body, Loader=_PlainLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise _too_deep()
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _too_deep() -> Exception:
    return bad_request(f"the object provided is nested deeper than {_MAX_DEPTH} levels")


def _check_bounds(value: Any) -> None:
    """Refuse what would make later walks recurse too deep or (YAML aliases) never end."""
    nodes = 0
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                if not all(isinstance(key, str) for key in node):
                    raise bad_request("the object provided is unrecognized: every key must be a string")
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
            elif not isinstance(node, str | int | float | bool | None):
                raise bad_request(f"the object provided is unrecognized: {type(node).__name__} is not a JSON type")
            elif isinstance(node, float) and node - node != 0:
                raise bad_request("the object provided is unrecognized: numbers must be finite")
            if nodes + len(below) > _MAX_NODES:
                raise bad_request(f"the object provided has more than {_MAX_NODES} values")
        nodes += len(below)
        if not below:
            return
        level = below
    raise _too_deep()
