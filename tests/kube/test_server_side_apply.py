from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labkit.kube.apiserver._apply import apply, leaves, shown, track_update

PORTS = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["port"],
    "items": {"type": "object", "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}},
}
SCHEMA = {
    "type": "object",
    "properties": {"spec": {"type": "object", "properties": {"ports": PORTS}, "additionalProperties": {}}},
}

specs = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(0, 2),
        "b": st.fixed_dictionaries({}, optional={"x": st.integers(0, 2), "y": st.integers(0, 2)}),
        "ports": st.lists(st.integers(1, 3), unique=True).map(
            lambda held: [{"port": one, "name": "n"} for one in held]
        ),
    },
)


def thing(spec):
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}


def applied_to(live, spec, manager, *, force=True):
    return apply(live, thing(spec), SCHEMA, manager, "", force=force)


@given(specs, specs)
def test_one_manager_alone_gets_exactly_what_it_applied_last(first, second):
    live, _ = applied_to(thing({}), first, "one")
    live, conflicts = applied_to(live, second, "one", force=False)
    assert not conflicts
    wanted, held = leaves(thing(second), SCHEMA), leaves(live, SCHEMA)
    empty = {path: value for path, value in held.items() if path not in wanted}
    assert all(value in ({}, []) for value in empty.values())
    assert {path: held.get(path) for path in wanted if wanted[path] not in ({}, [])} == {
        path: value for path, value in wanted.items() if value not in ({}, [])
    }


@given(specs, specs)
def test_applying_again_changes_nothing(first, second):
    live, _ = applied_to(thing({}), first, "one")
    once, _ = applied_to(live, second, "two")
    twice, conflicts = applied_to(once, second, "two", force=False)
    assert (twice, conflicts) == (once, [])


@given(specs, specs)
def test_what_another_manager_applied_stays_unless_forced(first, second):
    live, _ = applied_to(thing({}), first, "one")
    _, conflicts = applied_to(live, second, "two", force=False)
    mine, theirs = leaves(thing(first), SCHEMA), leaves(thing(second), SCHEMA)
    disputed = {shown(path) for path in mine.keys() & theirs.keys() if mine[path] != theirs[path]}
    assert {cause.field for cause in conflicts} == disputed


def test_a_field_two_managers_hold_goes_with_the_last_of_them():
    live, _ = applied_to(thing({}), {"a": 1}, "one")
    live, _ = applied_to(live, {"a": 1}, "two")
    live, _ = applied_to(live, {}, "one")
    assert live["spec"] == {"a": 1}
    live, _ = applied_to(live, {}, "two")
    assert "spec" not in live or live["spec"] == {}


def test_items_of_keyed_lists_are_merged_by_their_key():
    live, _ = applied_to(thing({}), {"ports": [{"port": 1, "name": "a"}]}, "one")
    live, _ = applied_to(live, {"ports": [{"port": 2, "name": "b"}]}, "two")
    assert [port["port"] for port in live["spec"]["ports"]] == [1, 2]
    live, _ = applied_to(live, {}, "one")
    assert live["spec"]["ports"] == [{"port": 2, "name": "b"}]


def test_an_update_takes_over_what_it_changes():
    live, _ = applied_to(thing({}), {"a": 1, "b": {"x": 1}}, "one")
    new = {**live, "metadata": dict(live["metadata"]), "spec": {"a": 2, "b": {"x": 1}}}
    track_update(live, new, SCHEMA, "editor", "")
    holders = {entry["manager"]: entry["fieldsV1"] for entry in new["metadata"]["managedFields"]}
    assert holders == {"one": {"f:spec": {"f:b": {"f:x": {}}}}, "editor": {"f:spec": {"f:a": {}}}}
