"""The three-way merge of `kubectl apply`: what to change so that an object becomes what a manifest says.

The manifest last applied is kept in an annotation, the same one that kubectl uses; so both can be used in turn, and
fields that went from the manifest go from the object, while fields that others set stay.
"""

from __future__ import annotations

import copy
import json
from typing import Any

Object = dict[str, Any]

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


def annotated(manifest: Object) -> Object:
    """A copy of a manifest that carries itself in the annotation."""
    bare = copy.deepcopy(manifest)
    annotations = bare.setdefault("metadata", {}).get("annotations") or {}
    annotations.pop(ANNOTATION, None)
    bare["metadata"]["annotations"] = annotations
    text = json.dumps(bare, separators=(",", ":"), sort_keys=True) + "\n"
    bare["metadata"]["annotations"] = {**annotations, ANNOTATION: text}
    return bare


def last_applied(live: Object) -> Object:
    """The manifest that was applied last; empty when none was."""
    text = (live["metadata"].get("annotations") or {}).get(ANNOTATION)
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def merge_patch(live: Object, wanted: Object) -> Object:
    """The JSON merge patch from a live object to an annotated manifest; empty when there is nothing to do.

    >>> merge_patch({"metadata": {}, "spec": {"a": 1, "b": 2}}, {"spec": {"a": 1, "b": 3}})
    {'spec': {'b': 3}}
    """
    return _patch(last_applied(live), live, wanted)


def _patch(last: Any, live: Object, wanted: Object) -> Object:
    patch: Object = {}
    for key, value in wanted.items():
        held = live.get(key)
        if isinstance(value, dict) and isinstance(held, dict):
            before = last.get(key) if isinstance(last, dict) else None
            below = _patch(before if isinstance(before, dict) else {}, held, value)
            if below:
                patch[key] = below
        elif value is not None and (key not in live or not _same(held, value)):
            patch[key] = value
        elif value is None and key in live:
            patch[key] = None
    for key in last if isinstance(last, dict) else ():
        if key not in wanted and key in live:
            patch[key] = None
    return patch


def _same(live: Any, wanted: Any) -> bool:
    """Equality of JSON values: unlike Python's, true is not 1."""
    if isinstance(live, bool) != isinstance(wanted, bool):
        return False
    if isinstance(live, dict) and isinstance(wanted, dict):
        return live.keys() == wanted.keys() and all(_same(live[key], wanted[key]) for key in wanted)
    if isinstance(live, list) and isinstance(wanted, list):
        return len(live) == len(wanted) and all(map(_same, live, wanted))
    return bool(live == wanted)
