"""labelSelector and fieldSelector."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from labkit.kube.apiserver._status import bad_request
from labkit.kube.apiserver._store import Object

Predicate = Callable[[Object], bool]

_SET = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s*\(([^()]*)\)\s*\Z")
_EQUALITY = re.compile(r"\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)\s*\Z")
_EXISTS = re.compile(r"\s*(!?)\s*([^\s!=,()]+)\s*\Z")
_COMPARISON = re.compile(r"\s*([^\s!=,()<>]+)\s*([<>])\s*(-?\d+)\s*\Z")


def selector(labels: str, fields: str) -> Predicate | None:
    """A test for objects, or None when both selectors are empty (everything)."""
    tests = [_label_test(part) for part in _split(labels)] + [_field_test(part) for part in _split(fields)]
    if not tests:
        return None
    return lambda body: all(test(body) for test in tests)


def _split(text: str) -> list[str]:
    """Split at the commas that are not inside parentheses."""
    parts = re.split(r",(?![^()]*\))", text)
    return [part for part in parts if part.strip()]


def _labels(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


def _label_test(text: str) -> Predicate:
    if match := _SET.match(text):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda body: _labels(body).get(key) in values
        return lambda body: _labels(body).get(key) not in values
    if match := _COMPARISON.match(text):
        key, operator, limit = match[1], match[2], int(match[3])
        return lambda body: _compare(_labels(body).get(key), operator, limit)
    if match := _EQUALITY.match(text):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda body: _labels(body).get(key) != value
        return lambda body: _labels(body).get(key) == value
    if match := _EXISTS.match(text):
        absent, key = match[1] == "!", match[2]
        return lambda body: (key in _labels(body)) != absent
    raise bad_request(f"unable to parse requirement: {text!r} is not a label selector")


def _compare(text: str | None, operator: str, limit: int) -> bool:
    try:
        value = int(text or "")
    except ValueError:
        return False
    return value > limit if operator == ">" else value < limit


def _field_test(text: str) -> Predicate:
    match = _EQUALITY.match(text)
    if not match:
        raise bad_request(f"invalid field selector: {text!r}")
    path, operator, value = match.groups()
    steps = path.split(".")
    wanted = operator != "!="
    return lambda body: (_field(body, steps) == value) == wanted


def _field(body: Object, steps: list[str]) -> str:
    found: object = body
    for step in steps:
        found = found.get(step) if isinstance(found, dict) else None
    return "" if found is None else str(found)
