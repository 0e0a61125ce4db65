"""Reading suites: the two formats mean the same, and what is malformed is an error that says where."""

from __future__ import annotations

import contextlib
import string

import pytest
import yaml
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.testing import SuiteError, load_suite, run_suite, schema
from labkit.testing.parse import parse_text, parse_yaml

MALFORMED = {
    "a.yaml": {
        "test:\n- nam: x": "a.yaml:2:3: test[0].nam is no field of Test",
        "tests: []": "a.yaml:1:1: tests is no field of TestSuite",
        "test: {name: x}": "a.yaml:1:7: test is a mapping, not a list",
        "test: x": "a.yaml:1:7: test is a scalar, not a list",
        "test:": "a.yaml:1:6: test is empty, not a list",
        "test: [x]": "a.yaml:1:8: test[0] is a scalar, not a mapping",
        "[]": "a.yaml:1:1: the suite is a list, not a mapping",
        "hello": "a.yaml:1:1: the suite is a scalar, not a mapping",
        "env: {log_level: LOUD}": "a.yaml:1:18: env.log_level is 'LOUD', not one of UNDEFINED, TRACE",
        "env: {log_level: 7}": "not one of",
        "env: {time_secs: soon}": "env.time_secs is 'soon', not a whole number",
        "env: {time_secs: -1}": "not between 0 and 18446744073709551615",
        "env: {time_secs: 99999999999999999999}": "not between",
        "env: {time_secs: 1.5}": "not a whole number",
        "env: {wasm_path: [a]}": "env.wasm_path is a list, not text",
        "env: {wasm_path: }": "env.wasm_path is empty, not text",
        "test: [{num_chunks: 2147483648}]": "not between -2147483648 and 2147483647",
        "test: [{benchmark: maybe}]": "test[0].benchmark is 'maybe', not true or false",
        "test: [{num_chunks: 1, chunk_size: 2}]": "test[0].chunk_size is there beside num_chunks",
        "test: [{name: a, name: b}]": "test[0].name is there twice",
        "test: [{request_headers: []}]": "test[0].request_headers is a list, not a mapping",
        "test: [{plugin_init: {log: [{exact: a, regex: b}]}}]": "log[0].regex is there beside exact",
        "? [a]\n: b": "is no field of TestSuite",
        "<<: {test: []}": "<< is no field",
        "&a [*a]": "the suite is a list",
        "test: &a [{request_body: *a}]": "is no field of Invocation|is there",
        "test: *none": "a.yaml:1:7: not YAML",
        "test: [": "a.yaml:1:8: not YAML",
        "\tx: y": "not YAML",
        "a: b: c": "a.yaml:1:5: not YAML",
        "--- {}\n--- {}": "a.yaml:2:1: not YAML",
        "test: \x01": "not YAML",
        "[" * 20000: "nested too deeply",
        "test: [{name: !!python/object:os.system x}]": None,
    },
    "a.textpb": {
        'test { nam: "x" }': 'a.textpb:1:8: Message type "service_extensions_samples.pb.Test" has no field named "nam"',
        "test { name: 1 }": "a.textpb:1:14: ",
        "test {": "a.textpb:1:",
        "test": "a.textpb:1:",
        "env { log_level: LOUD }": "a.textpb:1:18: ",
        "env { time_secs: -1 }": "a.textpb:1:18: ",
        "test { num_chunks: 1 chunk_size: 2 }": "a.textpb:1:22: ",
        'test { name: "a" name: "b" }': "a.textpb:1:24: ",
        'test { name: "a }': "a.textpb:1:14: ",
        'test { name: "\\377" }': "a.textpb",
        "}": "a.textpb:1:1: ",
        "\x00": "a.textpb",
        "env { [x.y]: 1 }": "a.textpb",
        "test {" * 20000: "a.textpb",
    },
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [(name, text, message) for name, table in MALFORMED.items() for text, message in table.items()],
    ids=lambda value: str(value)[:40],
)
def test_malformed_suite_is_an_error_that_says_where(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    if message is None:
        load_suite(path)
        return
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    said = str(caught.value).replace(f"{tmp_path}/", "")
    assert any(part in said for part in message.split("|")), said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.yaml", b"\xff", "not a text in UTF-8: byte 0"),
        ("a.textpb", b"ab\xff", "not a text in UTF-8: byte 2"),
        ("a.json", b"{}", "in which format"),
        ("missing/a.yaml", None, "No such file"),
        ("", None, "in which format|directory"),
    ],
)
def test_unreadable_file(tmp_path, name, data, message):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert any(part in str(caught.value) for part in message.split("|"))


def test_aliases_cannot_make_a_suite_endless():
    text = "test:\n- &t {plugin_init: {log: &l [" + ", ".join(["{exact: a}"] * 1000) + "]}}\n"
    text += "- *t\n" * 1000
    with pytest.raises(SuiteError, match="more than"):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("'true'", True), ("Yes", True), ("ON", True), ("n", False), ("False", False), ("off", False)],
)
def test_words_for_true_and_false(text, value):
    assert parse_yaml(f"test: [{{benchmark: {text}}}]").test[0].benchmark is value


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("0x1F", 31), ("010", 8), ("0", 0), ("'7'", 7), ("+1", 1)])
def test_numbers(text, value):
    assert parse_yaml(f"env: {{time_secs: {text}}}").env.time_secs == value


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "null\n", "{}\n"])
def test_empty_suite(text):
    assert not parse_yaml(text).test


TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x85\u2028\u2029\ufeff", exclude_categories=["Cs", "Cc"])
)
NUMBERS = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
}


@st.composite
def documents(draw, descriptor):
    """A document that the schema allows, as YAML would have it."""
    document, oneofs = {}, set()
    names = sorted(descriptor.fields_by_name)
    for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=4)):
        field = descriptor.fields_by_name[name]
        oneof = field.containing_oneof
        if oneof is not None and oneof.full_name in oneofs:
            continue
        oneofs.add(oneof.full_name if oneof is not None else name)
        document[name] = draw(values(field))
    return document


def values(field):
    if field.enum_type is not None:
        return st.sampled_from(sorted(field.enum_type.values_by_name))
    if field.message_type is None:
        return NUMBERS.get(field.type, TEXT)
    one = documents(field.message_type)
    return st.lists(one, max_size=3) if field.is_repeated else one


def fill(message, document):
    for name, value in document.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                inner = getattr(message, name).add() if field.is_repeated else getattr(message, name)
                inner.SetInParent()
                fill(inner, item)
        elif field.enum_type is not None:
            setattr(message, name, field.enum_type.values_by_name[value].number)
        else:
            setattr(message, name, value.encode() if field.type == FieldDescriptor.TYPE_BYTES else value)


@given(documents(schema.TestSuite.DESCRIPTOR), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_yaml_and_text_proto_are_the_same_suite(document, flow):
    message = schema.TestSuite()
    fill(message, document)
    text = yaml.safe_dump(document, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    assert parse_yaml(text) == message
    assert parse_text(text_format.MessageToString(message)) == message


HEADERS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from([":path", "x-list", "X-List", "x-gone", "x-reply", "x-pause", "a"]),
            "value": st.text(string.ascii_letters, max_size=4),
        }
    ),
    max_size=4,
)
MATCHERS = st.lists(
    st.fixed_dictionaries({"invert": st.booleans(), "regex": st.sampled_from([".*", "x.*", "request headers", "["])}),
    max_size=2,
)
TESTS = st.fixed_dictionaries(
    {
        "name": st.just("it"),
        "request_headers": st.fixed_dictionaries(
            {
                "input": st.fixed_dictionaries({"header": HEADERS}),
                "result": st.fixed_dictionaries(
                    {"has_header": HEADERS, "no_header": HEADERS, "headers": MATCHERS, "log": MATCHERS}
                ),
            }
        ),
        "request_body": st.lists(
            st.fixed_dictionaries({"input": st.fixed_dictionaries({"content": TEXT})}), max_size=2
        ),
        "chunk_size": st.integers(0, 3),
    }
)


@given(st.fixed_dictionaries({"test": st.lists(TESTS, max_size=2)}))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_notations_give_the_same_result(tmp_path_factory, sample, document):
    folder = tmp_path_factory.mktemp("law")
    message = schema.TestSuite()
    fill(message, document)
    (folder / "a.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    (folder / "a.textpb").write_text(text_format.MessageToString(message))
    results = [run_suite(load_suite(folder / name), plugin=sample) for name in ("a.yaml", "a.textpb")]
    one, other = ([(test.name, test.failures, test.logs) for test in result.tests] for result in results)
    assert one == other


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
@settings(deadline=None)
def test_any_text_is_a_suite_or_an_error(text):
    for parse in (parse_yaml, parse_text):
        with contextlib.suppress(SuiteError):
            parse(text)
