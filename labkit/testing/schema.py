"""The messages of a test suite, field for field those of the service-extensions plugin tester.

They are described here as data, so that neither protoc nor generated code is needed; they live in a descriptor pool
of their own, so that a process which has the original's generated classes keeps working.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_PACKAGE = "service_extensions_samples.pb"
_LOG_LEVELS = ("UNDEFINED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL")

# number, name, type: a scalar, or a message of this file. `*` repeated, `?` with presence, `|` in the oneof.
_MESSAGES = {
    "StringMatcher": "1 invert bool, 2 exact |bytes, 3 regex |string, 4 file |string",
    "Header": "1 key string, 2 value bytes",
    "Input": "1 header *Header, 2 content bytes, 3 file string",
    "Expectation": "1 has_header *Header, 2 no_header *Header, 3 headers *StringMatcher, 4 body *StringMatcher, "
    "5 immediate Immediate, 6 log *StringMatcher",
    "Immediate": "1 http_status ?uint32, 2 grpc_status ?uint32, 3 details ?string",
    "Invocation": "1 input Input, 2 result Expectation",
    "Property": "1 path string, 2 value bytes",
    "Test": "1 name string, 2 benchmark bool, 10 num_chunks |int32, 11 chunk_size |int64, 12 properties *Property, "
    "3 request_headers Invocation, 4 request_body *Invocation, 5 response_headers Invocation, "
    "6 response_body *Invocation, 7 plugin_init Expectation, 8 stream_init Expectation, 9 stream_destroy Expectation",
    "Env": "1 test_path string, 2 wasm_path string, 3 config_path string, 4 log_level LogLevel, 5 log_path string, "
    "6 time_secs ?uint64, 7 num_additional_streams ?uint64, 8 additional_stream_advance_rate ?uint64",
    "TestSuite": "1 env Env, 2 test *Test",
}
_ONEOF = {"StringMatcher": "matcher", "Test": "body_chunking_plan"}
_NESTED = {"Immediate": "Expectation", "LogLevel": "Env"}

_Field = descriptor_pb2.FieldDescriptorProto


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="labkit/testing/suite.proto", package=_PACKAGE, syntax="proto3")
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in sorted(_MESSAGES, key=lambda name: name in _NESTED):
        target = made[_NESTED[name]].nested_type if name in _NESTED else file.message_type
        message = made[name] = target.add(name=name)
        if name in _ONEOF:
            message.oneof_decl.add(name=_ONEOF[name])
        for line in _MESSAGES[name].split(", "):
            number, field, kind = line.split(" ")
            _add_field(message, int(number), field, kind)
    levels = made["Env"].enum_type.add(name="LogLevel")
    for value, level in enumerate(_LOG_LEVELS):
        levels.value.add(name=level, number=value)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, name: str, kind: str) -> None:
    mark, bare = (kind[0], kind[1:]) if kind[0] in "*?|" else ("", kind)
    label = _Field.LABEL_REPEATED if mark == "*" else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if bare in _MESSAGES or bare in _NESTED:
        field.type = _Field.TYPE_ENUM if bare == "LogLevel" else _Field.TYPE_MESSAGE
        field.type_name = "." + ".".join(part for part in (_PACKAGE, _NESTED.get(bare), bare) if part)
    else:
        field.type = getattr(_Field, f"TYPE_{bare.upper()}")
    if mark == "|":
        field.oneof_index = 0
    elif mark == "?":
        # proto3 keeps the presence of a scalar in a oneof of its own.
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _suite_class() -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_describe())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.TestSuite"))


# The fields of messages described at run time are beyond what a type checker can know.
TestSuite: Any = _suite_class()
"""The message class; its instances have `env` and `test`."""
