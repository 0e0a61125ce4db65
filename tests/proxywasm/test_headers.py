"""Laws of header maps, their byte format, and of changing a buffer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.proxywasm import Status
from labkit.proxywasm.headers import HeaderMap, MalformedPairs, MapKind, parse, serialize, to_pairs
from labkit.proxywasm.hostcalls.buffers import splice

names = st.sampled_from([b"a", b"b", b":path", b":x", b"user-agent", b"set-cookie", b"Mixed-Case"])
values = st.binary(max_size=8)
pairs = st.lists(st.tuples(names, values), max_size=8)


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=20))
def test_parse_is_the_inverse_of_serialize(given_pairs):
    assert parse(serialize(given_pairs)) == given_pairs


@given(st.binary(max_size=64))
def test_parse_takes_nothing_else(data):
    try:
        parsed = parse(data)
    except MalformedPairs:
        return
    assert serialize(parsed) == data


@given(pairs)
def test_pseudo_headers_come_first_and_order_stays(given_pairs):
    header_map = HeaderMap(given_pairs, MapKind.RESPONSE)
    pseudo = [name.startswith(b":") for name, _ in header_map.pairs]
    assert pseudo == sorted(pseudo, reverse=True)
    for name in (b"a", b"b", b"set-cookie", b"mixed-case", b":x"):
        expected = [value for key, value in given_pairs if key.lower() == name]
        assert [value for key, value in header_map.pairs if key == name] == expected


@given(pairs, names, values)
def test_replace_leaves_one_remove_none(given_pairs, name, value):
    header_map = HeaderMap(given_pairs)
    header_map.replace(name, value)
    assert [v for k, v in header_map.pairs if k == name.lower()] == [value]
    assert header_map.get(name) == value
    header_map.remove(name)
    assert header_map.get(name) is None


@given(pairs)
def test_byte_size_is_the_sum(given_pairs):
    header_map = HeaderMap(given_pairs)
    assert header_map.byte_size() == sum(len(k) + len(v) for k, v in header_map.pairs)


@given(pairs)
def test_a_copy_is_independent(given_pairs):
    header_map = HeaderMap(given_pairs)
    before = list(header_map)
    header_map.copy().add(b"new", b"x")
    assert list(header_map) == before


def test_host_is_another_name_for_authority():
    header_map = HeaderMap([(b"Host", b"a")])
    assert header_map.pairs == [(b":authority", b"a")]
    assert header_map.get(b"host") == b"a"


def test_text_and_mappings_become_pairs():
    assert to_pairs({"X-A": "ä"}) == [(b"x-a", "ä".encode())]
    assert to_pairs([("a", b"1"), (b"A", "2")]) == [(b"a", b"1"), (b"a", b"2")]
    assert to_pairs(None) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too short"),
        (b"\1\0", "too short"),
        (b"\xff\xff\xff\xff", "more than"),
        (b"\2\0\0\0", "announced"),
        (b"\1\0\0\0\1\0\0\0\1\0\0\0a", "no zero|beyond"),
        (b"\1\0\0\0\1\0\0\0\1\0\0\0axbx", "no zero byte"),
        (b"\1\0\0\0\1\0\0\0\xff\xff\xff\xffa\0b\0", "beyond"),
        (b"\0\0\0\0\0", "too many"),
        (bytes(2 << 20), "more than"),
    ],
)
def test_malformed_maps_say_why(data, why):
    with pytest.raises(MalformedPairs, match=why):
        parse(data)


@given(st.binary(max_size=12), st.integers(0, 16), st.integers(0, 16), st.binary(max_size=6))
def test_splice_inserts_replaces_or_appends(content, start, length, new):
    buffer = bytearray(content)
    status = splice(buffer, start, length, new)
    if start == 0:
        assert (status, bytes(buffer)) == (Status.OK, new + content[length:])
    elif start >= len(content):
        assert (status, bytes(buffer)) == (Status.OK, content + new)
    else:
        assert (status, bytes(buffer)) == (Status.BAD_ARGUMENT, content)
