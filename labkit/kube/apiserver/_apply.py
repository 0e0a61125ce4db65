"""Server-side apply: who manages which field (`metadata.managedFields`), and merging what a manager applies.

A field set is a set of paths; a path is a tuple of steps in the form of fieldsV1: `f:name` for a field,
`k:{"port":80}` for an item of a list whose items have keys, `v:"x"` for a member of a set.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from labkit.kube.apiserver._metadata import now
from labkit.kube.apiserver._models import Schema, resolve
from labkit.kube.apiserver._status import Cause
from labkit.kube.apiserver._store import Object

Path = tuple[str, ...]
Leaves = dict[Path, Any]

_UNMANAGED = {
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generateName",
}


def leaves(body: Object, schema: Schema) -> Leaves:
    """Every field of an object that somebody can manage, with its value."""
    found: Leaves = {}
    managed = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: value for key, value in body.get("metadata", {}).items() if key not in _UNMANAGED}
    if metadata:
        managed["metadata"] = metadata
    _collect(managed, schema, (), found)
    return found


def _collect(value: Any, schema: Schema, path: Path, found: Leaves) -> None:
    schema = resolve(schema)
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        for key, item in value.items():
            _collect(item, _field_schema(schema, key), (*path, f"f:{key}"), found)
        return
    step = _item_step(schema)
    if isinstance(value, list) and value and step:
        for item in value:
            below = (*path, step(item))
            found[below] = None
            if isinstance(item, dict):
                _collect(item, schema.get("items") or {}, below, found)
        return
    if path:
        found[path] = value


def _field_schema(schema: Schema, key: str) -> Schema:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    found: Schema = properties.get(key) or (additional if isinstance(additional, dict) else {})
    return found


def _item_step(schema: Schema) -> Any:
    """How items of this list are told apart, or None when the list is replaced whole."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return lambda item: "v:" + json.dumps(item, separators=(",", ":"), sort_keys=True)
    if kind == "map":
        keys = schema.get("x-kubernetes-list-map-keys") or []
        items = resolve(schema.get("items") or {})
        return lambda item: "k:" + json.dumps(_identity(item, keys, items), separators=(",", ":"), sort_keys=True)
    return None


def _identity(item: Any, keys: list[str], schema: Schema) -> dict[str, Any]:
    defaults = {"protocol": "TCP"}
    found = {}
    for key in keys:
        default = (schema.get("properties") or {}).get(key, {}).get("default", defaults.get(key))
        found[key] = item.get(key, default) if isinstance(item, dict) else None
    return found


def _to_fields(paths: Iterable[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return tree


def _from_fields(tree: Any, path: Path = ()) -> set[Path]:
    if not isinstance(tree, dict):
        return set()
    if not tree:
        return {path} if path else set()
    found: set[Path] = set()
    for step, below in tree.items():
        found |= {path} if step == "." else _from_fields(below, (*path, step))
    return found


def _entries(body: Object, subresource: str = "") -> list[dict[str, Any]]:
    listed = body.get("metadata", {}).get("managedFields") or []
    return [entry for entry in listed if isinstance(entry, dict)]


def _identifies(entry: dict[str, Any], manager: str, operation: str, subresource: str) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (
        manager,
        operation,
        subresource,
    )


def _entry(manager: str, operation: str, subresource: str, version: str, paths: set[Path]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "manager": manager,
        "operation": operation,
        "apiVersion": version,
        "time": now(),
        "fieldsType": "FieldsV1",
        "fieldsV1": _to_fields(paths),
    }
    if subresource:
        entry["subresource"] = subresource
    return entry


def track_update(old: Object | None, new: Object, schema: Schema, manager: str, subresource: str) -> None:
    """Write into `new` that `manager` now manages what it changed by a create, update or patch."""
    before = leaves(old, schema) if old else {}
    after = leaves(new, schema)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    entries = []
    own: set[Path] = set()
    own_entry: dict[str, Any] | None = None
    for entry in _entries(old or {}):
        paths = _from_fields(entry.get("fieldsV1"))
        if _identifies(entry, manager, "Update", subresource):
            own, own_entry = paths, entry
            continue
        kept = paths - changed - gone
        if kept:
            entries.append(entry if kept == paths else {**entry, "fieldsV1": _to_fields(kept)})
    now_own = (own | changed) & after.keys()
    if own_entry is not None and now_own == own and not changed:
        entries.append(own_entry)
    elif now_own:
        entries.append(_entry(manager, "Update", subresource, new["apiVersion"], now_own))
    new["metadata"]["managedFields"] = entries
    if not entries:
        del new["metadata"]["managedFields"]


def apply(
    live: Object, applied: Object, schema: Schema, manager: str, subresource: str, *, force: bool
) -> tuple[Object, list[Cause]]:
    """Merge what a manager applies into the live object.

    Returns:
        The merged object with its managedFields, and the conflicts with other managers (none when forced).
    """
    wanted = leaves(applied, schema)
    current = leaves(live, schema)
    previous: set[Path] = set()
    previous_entry: dict[str, Any] | None = None
    others: list[tuple[dict[str, Any], set[Path]]] = []
    for entry in _entries(live):
        paths = _from_fields(entry.get("fieldsV1"))
        if _identifies(entry, manager, "Apply", subresource):
            previous, previous_entry = paths, entry
        else:
            others.append((entry, paths))
    disputed = {path for path, value in wanted.items() if path in current and current[path] != value}
    conflicts = [] if force else _conflicts(disputed, others)
    merged = _merge(copy.deepcopy(live), applied, schema)
    held_by_others = set().union(*(paths for _, paths in others))
    # Whole items of lists go before their fields: without its key field an item is not found any more.
    kept = {path[:length] for path in held_by_others | wanted.keys() for length in range(1, len(path) + 1)}
    for path in sorted(previous - kept, key=len):
        _remove(merged, path)
    entries = []
    for entry, paths in others:
        left = paths - disputed
        if left:
            entries.append(entry if left == paths else {**entry, "fieldsV1": _to_fields(left)})
    fresh = _entry(manager, "Apply", subresource, applied["apiVersion"], set(wanted))
    same = previous_entry is not None and previous_entry.get("fieldsV1") == fresh["fieldsV1"]
    entries.insert(0, previous_entry if same and previous_entry else fresh)
    merged["metadata"]["managedFields"] = entries
    return merged, conflicts


def _conflicts(disputed: set[Path], others: list[tuple[dict[str, Any], set[Path]]]) -> list[Cause]:
    found = []
    for entry, paths in others:
        for path in sorted(disputed & paths):
            message = f'conflict with "{entry.get("manager")}" using {entry.get("apiVersion")}'
            found.append(Cause(shown(path), message, "FieldManagerConflict"))
    return found


def shown(path: Path) -> str:
    """A path for people: `.spec.ports[port=80,protocol="TCP"].name`."""
    text = ""
    for step in path:
        if step.startswith("f:"):
            text += "." + step[2:]
        elif step.startswith("k:"):
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(step[2:]).items()) + "]"
        else:
            text += f"[{step[2:]}]"
    return text


def _merge(live: Any, applied: Any, schema: Schema) -> Any:
    schema = resolve(schema)
    if isinstance(applied, dict) and isinstance(live, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        for key, value in applied.items():
            live[key] = _merge(live.get(key), value, _field_schema(schema, key))
        return live
    step = _item_step(schema)
    if isinstance(applied, list) and isinstance(live, list) and step:
        at = {step(item): index for index, item in enumerate(live)}
        for item in applied:
            identity = step(item)
            if identity in at:
                live[at[identity]] = _merge(live[at[identity]], item, schema.get("items") or {})
            else:
                at[identity] = len(live)
                live.append(copy.deepcopy(item))
        return live
    return copy.deepcopy(applied)


def _remove(body: Any, path: Path) -> None:
    """Take one field out of an object, and the maps and lists that become empty by it."""
    step, rest = path[0], path[1:]
    if isinstance(body, dict) and step.startswith("f:"):
        key = step[2:]
        if key not in body:
            return
        if rest:
            _remove(body[key], rest)
        if not rest or body[key] in ({}, []):
            del body[key]
    elif isinstance(body, list):
        index = next((n for n, item in enumerate(body) if _is_item(item, step)), None)
        if index is None:
            return
        if rest:
            _remove(body[index], rest)
        else:
            del body[index]


def _is_item(item: Any, step: str) -> bool:
    identity = json.loads(step[2:])
    if step.startswith("v:"):
        return bool(item == identity)
    return isinstance(item, dict) and _identity(item, list(identity), {}) == identity
