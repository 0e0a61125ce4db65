from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.kube._last_applied import annotated, merge_patch
from labkit.kube.apiserver._patch import PatchError, json_patch, merge, strategic_merge

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab/~", max_size=3)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), below, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text("abc", min_size=1, max_size=2), values, max_size=4)


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@given(values, values)
def test_merging_twice_is_merging_once(target, patch):
    once = merge(target, patch)
    assert merge(once, patch) == once


@given(objects, objects)
def test_a_merge_patch_leaves_its_arguments_alone(target, patch):
    before = copy.deepcopy((target, patch))
    merge(target, patch)
    assert (target, patch) == before


@given(objects)
def test_the_empty_merge_patch_changes_nothing(target):
    assert merge(target, {}) == target


@given(objects)
def test_merging_into_nothing_gives_the_patch_without_its_nulls(patch):
    assert merge({}, patch) == without_nulls(patch)


@given(objects, objects)
def test_strategic_merge_without_keyed_lists_is_a_merge(target, patch):
    assert strategic_merge(target, patch) == merge(target, patch)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c"], ["c"]),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_rfc_7386(target, patch, result):
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": 1}], {"foo": "bar", "baz": 1}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
        ({"a": [1, 2, 3]}, [{"op": "remove", "path": "/a/1"}], {"a": [1, 3]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": 2}], {"a": 2}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        (
            {"a/b": 1, "m~n": 2},
            [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}],
            {"a/b": 1},
        ),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ],
)
def test_json_patch(target, operations, result):
    assert json_patch(target, operations) == result


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "remove", "path": "/missing"}],
        [{"op": "replace", "path": "/missing", "value": 1}],
        [{"op": "test", "path": "/a", "value": 2}],
        [{"op": "test", "path": "/a", "value": True}],
        [{"op": "add", "path": "/list/4", "value": 1}],
        [{"op": "add", "path": "/list/01", "value": 1}],
        [{"op": "add", "path": "/list/x", "value": 1}],
        [{"op": "add", "path": "/a/b", "value": 1}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "move", "from": "/o", "path": "/o/below"}],
        [{"op": "copy", "path": "/b"}],
        [{"op": "remove", "path": ""}],
        [{"op": "explode", "path": "/a"}],
        [{"path": "/a"}],
        ["add"],
        {"op": "add", "path": "/a", "value": 1},
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused_whole(operations):
    target = {"a": 1, "list": [], "o": {}}
    before = copy.deepcopy(target)
    with pytest.raises(PatchError):
        json_patch(
            target,
            [{"op": "add", "path": "/new", "value": 1}, *operations] if isinstance(operations, list) else operations,
        )
    assert target == before


@given(objects)
def test_a_json_patch_of_tests_alone_changes_nothing(target):
    def pointer(key):
        return "/" + key.replace("~", "~0").replace("/", "~1")

    operations = [{"op": "test", "path": pointer(key), "value": value} for key, value in target.items()]
    assert json_patch(target, operations) == target


def test_strategic_merge_directives():
    service = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}
    deleted = strategic_merge(service, {"spec": {"ports": [{"port": 80, "$patch": "delete"}]}})
    assert deleted == {"spec": {"ports": [{"port": 81, "name": "b"}]}}
    replaced = strategic_merge(service, {"spec": {"ports": [{"$patch": "replace"}, {"port": 82}]}})
    assert replaced == {"spec": {"ports": [{"port": 82}]}}
    order = {"spec": {"$setElementOrder/ports": [{"port": 81}, {"port": 80}], "ports": [{"port": 80, "name": "c"}]}}
    assert [port["name"] for port in strategic_merge(service, order)["spec"]["ports"]] == ["b", "c"]
    with pytest.raises(PatchError, match="merge key"):
        strategic_merge(service, {"spec": {"ports": [{"name": "no key"}]}})


manifests = st.fixed_dictionaries({"spec": objects.map(without_nulls)}).map(
    lambda body: {"metadata": {"name": "x"}, **json.loads(json.dumps(body))}
)


@given(manifests, manifests, objects.map(without_nulls))
def test_applying_a_manifest_twice_does_nothing_and_removes_what_it_no_longer_says(first, second, others):
    """The law of three-way merge: afterwards the object is as the manifest says, and others' fields are still there."""
    live = annotated(first)
    live["status"] = others
    applied = merge(live, merge_patch(live, annotated(second)))
    assert merge_patch(applied, annotated(second)) == {}
    assert applied["status"] == others
    for key, value in second["spec"].items():
        if not isinstance(value, dict):
            assert applied["spec"][key] == value
    assert not (first["spec"].keys() - second["spec"].keys()) & applied["spec"].keys()
