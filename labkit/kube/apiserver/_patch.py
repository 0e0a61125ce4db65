"""JSON patch (RFC 6902), JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch.

All three are pure: they return a new value and leave their arguments alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


class PatchError(ValueError):
    """A patch that is malformed or does not fit the object."""


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch.

    >>> merge({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}})
    {'b': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """Apply a JSON patch; all of it or nothing.

    >>> json_patch({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}])
    {'a': [1, 2, 3]}
    """
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    result = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise PatchError("every operation of a JSON patch is an object with op and path")
        result = _operate(result, operation)
    return result


def _operate(document: Any, operation: Mapping[str, Any]) -> Any:
    op, path = operation.get("op"), _pointer(operation["path"])
    if op in ("add", "replace", "test") and "value" not in operation:
        raise PatchError(f"{op} operation needs a value")
    if op == "add":
        return _add(document, path, copy.deepcopy(operation["value"]))
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _resolve(document, path)
        return _replace(document, path, copy.deepcopy(operation["value"]))
    if op == "test":
        if not _equal(_resolve(document, path), operation["value"]):
            raise PatchError(f"testing value {operation['path']} failed")
        return document
    if op in ("move", "copy"):
        if not isinstance(operation.get("from"), str):
            raise PatchError(f"{op} operation needs from")
        source = _pointer(operation["from"])
        value = copy.deepcopy(_resolve(document, source))
        if op == "move":
            if path[: len(source)] == source and len(path) > len(source):
                raise PatchError("a value cannot be moved into itself")
            document = _remove(document, source)
        return _add(document, path, value)
    raise PatchError(f"unknown operation {op!r}")


def _equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike Python's, true is not 1."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _pointer(text: str) -> list[str]:
    if text == "":
        return []
    if not text.startswith("/"):
        raise PatchError(f"path {text!r} does not start with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(part: str, length: int) -> int:
    if not (part.isascii() and part.isdigit()) or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        raise PatchError(f"{part!r} is not a list index")
    index = int(part)
    if index >= length:
        raise PatchError(f"list index {index} is out of range")
    return index


def _resolve(document: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(part, len(document))]
        else:
            raise PatchError(f"path /{'/'.join(path)} does not exist")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _resolve(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        at = len(parent) if path[-1] == "-" else _index(path[-1], len(parent) + 1)
        parent.insert(at, value)
    else:
        raise PatchError(f"path /{'/'.join(path)} does not exist")
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _resolve(document, path[:-1])
    if isinstance(parent, list):
        parent[_index(path[-1], len(parent))] = value
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise PatchError("the whole document cannot be removed")
    _resolve(document, path)
    parent = _resolve(document, path[:-1])
    if isinstance(parent, list):
        del parent[_index(path[-1], len(parent))]
    else:
        del parent[path[-1]]
    return document


MERGE_KEYS: Mapping[str, str] = {
    "metadata.ownerReferences": "uid",
    "spec.ports": "port",
    "status.conditions": "type",
    "status.loadBalancer.ingress.ports": "port",
}
"""The lists of built-in kinds whose items strategic merge matches by a key; all others are replaced whole."""

_MERGED_SETS = frozenset({"metadata.finalizers", "spec.finalizers"})


def strategic_merge(target: Any, patch: Any, path: str = "") -> Any:
    """Apply a strategic merge patch: a merge patch that also merges the lists in `MERGE_KEYS` item by item.

    >>> strategic_merge({"spec": {"ports": [{"port": 80}]}}, {"spec": {"ports": [{"port": 80, "name": "http"}]}})
    {'spec': {'ports': [{'port': 80, 'name': 'http'}]}}
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) and directive != "replace" else {}
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(("$setElementOrder/", "$deleteFromPrimitiveList/")) or key in ("$patch", "$retainKeys"):
            continue
        below = f"{path}.{key}" if path else key
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list) and below in MERGE_KEYS:
            result[key] = _merge_items(result.get(key), value, MERGE_KEYS[below], below)
        elif isinstance(value, list) and below in _MERGED_SETS:
            held = result.get(key) or []
            result[key] = [*held, *(item for item in value if item not in held)]
        else:
            result[key] = strategic_merge(result.get(key), value, below)
    _apply_directives(result, patch)
    return result


def _merge_items(target: Any, patch: list[Any], key: str, path: str) -> list[Any]:
    items = [dict(item) for item in target or [] if isinstance(item, dict)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise PatchError(f"{path}: every item of this list needs its merge key {key!r}")
        at = next((n for n, held in enumerate(items) if _equal(held.get(key), item[key])), None)
        if item.get("$patch") == "delete":
            items = [held for held in items if not _equal(held.get(key), item[key])]
        elif at is None:
            items.append(strategic_merge({}, item, path))
        else:
            items[at] = strategic_merge(items[at], item, path)
    return items


def _apply_directives(result: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        directive, slash, name = key.partition("/")
        if not slash or not isinstance(value, list):
            continue
        held = result.get(name)
        if not isinstance(held, list):
            continue
        if directive == "$deleteFromPrimitiveList":
            result[name] = [item for item in held if item not in value]
        elif directive == "$setElementOrder":
            result[name] = _ordered(held, value)


def _ordered(items: list[Any], order: list[Any]) -> list[Any]:
    """Items in the order the patch asks for; those it does not mention stay behind, in theirs."""

    def rank(item: Any) -> int:
        for position, wanted in enumerate(order):
            if isinstance(item, dict) and isinstance(wanted, dict):
                if all(_equal(item.get(key), value) for key, value in wanted.items()):
                    return position
            elif _equal(item, wanted):
                return position
        return len(order)

    return sorted(items, key=rank)
