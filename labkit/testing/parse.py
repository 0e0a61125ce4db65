"""Read a suite from text-proto or YAML; what is wrong with it is said with file, line and column."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from labkit.errors import UsageError
from labkit.testing.schema import TestSuite
from labkit.testing.textual import NotThisType, scalar

_YAML = (".yaml", ".yml")
_TEXT = (".textpb", ".textproto", ".txtpb", ".pbtxt", ".prototxt", ".pb.txt")
_MAX_NODES = 200_000
"""Aliases let a few lines of YAML stand for billions; a suite of this size is none."""


class SuiteError(UsageError):
    """A suite that cannot be read: no such file, not this format, an unknown field, a wrong type."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A test suite as its file says it.

    Attributes:
        path: The file; inputs and expectations name their files relative to it.
        message: The `TestSuite` message.
    """

    path: Path
    message: Any

    @property
    def names(self) -> list[str]:
        """The tests' names, in the order of the file."""
        return [test.name for test in self.message.test]

    def near(self, path: str) -> Path:
        """Where a file is that the suite names in an input or an expectation."""
        return self.path.parent / path

    def named(self, path: str) -> Path:
        """Where plugin or configuration are that `env` names: as seen from here, else as seen from the suite."""
        return Path(path) if Path(path).exists() else self.near(path)


def load_suite(path: str | os.PathLike[str]) -> Suite:
    """Read a suite; the file's suffix says in which format it is.

    Raises:
        SuiteError: It cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not a text in UTF-8: byte {error.start}") from None
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix in _YAML:
        return Suite(path, parse_yaml(text, str(path)))
    if path.name.endswith(_TEXT):
        return Suite(path, parse_text(text, str(path)))
    raise SuiteError(
        f"{path}: its name does not say in which format it is", hint=f"name it {' or '.join((*_YAML, *_TEXT))}"
    )


def parse_text(text: str, name: str = "<text>") -> Any:
    """A `TestSuite` from text-proto."""
    message = TestSuite()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        place = f"{name}:{error.GetLine()}:{error.GetColumn()}" if error.GetLine() else name
        what = str(error)
        prefix = f"{error.GetLine()}:{error.GetColumn()} : "
        raise SuiteError(f"{place}: {_one_line(what.removeprefix(prefix))}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise SuiteError(f"{name}: {_one_line(str(error))}") from None
    return message


def parse_yaml(text: str, name: str = "<yaml>") -> Any:
    """A `TestSuite` from YAML: the same fields, lists for those that repeat, text for bytes."""
    message = TestSuite()
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise SuiteError(f"{place}: not YAML: {_one_line(error.problem or str(error))}") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{name}: not YAML: {_one_line(str(error))}") from None
    except RecursionError:
        raise SuiteError(f"{name}: not YAML: nested too deeply") from None
    if root is not None and not _is_null(root):
        _Filler(name).fill(message, root, "")
    return message


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


class _Filler:
    """Fills messages from YAML nodes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0

    def fill(self, message: Any, node: yaml.Node, path: str) -> None:
        """Set the fields that a mapping names."""
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, path, f"is {_kind(node)}, not a mapping")
        fields = message.DESCRIPTOR.fields_by_name
        seen: set[str] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _kind(key)
            inner = f"{path}.{name}" if path else str(name)
            field = fields.get(name) if isinstance(key, yaml.ScalarNode) else None
            if field is None:
                known = ", ".join(sorted(fields))
                raise self._error(key, inner, f"is no field of {message.DESCRIPTOR.name}", hint=f"it has: {known}")
            oneof = field.containing_oneof
            other = message.WhichOneof(oneof.name) if oneof is not None else None
            if name in seen or other is not None:
                raise self._error(key, inner, "is there twice" if name in seen else f"is there beside {other}")
            seen.add(name)
            self._set(message, field, value, inner)

    def _set(self, message: Any, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        if not field.is_repeated:
            self._set_one(message, field, node, path)
            return
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, path, f"is {_kind(node)}, not a list")
        for index, item in enumerate(node.value):
            self.fill(getattr(message, field.name).add(), item, f"{path}[{index}]")

    def _set_one(self, message: Any, field: FieldDescriptor, node: yaml.Node, path: str) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise self._error(node, path, f"the suite has more than {_MAX_NODES} values")
        if field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.fill(inner, node, path)
            return
        if not isinstance(node, yaml.ScalarNode) or _is_null(node):
            raise self._error(node, path, f"is {_kind(node)}, not {_type_name(field)}")
        try:
            setattr(message, field.name, scalar(field, node.value))
        except NotThisType as error:
            raise self._error(node, path, f"is {node.value!r}, not {error}") from None
        except (ValueError, UnicodeEncodeError) as error:
            raise self._error(node, path, _one_line(str(error))) from None

    def _error(self, node: yaml.Node, path: str, what: str, hint: str | None = None) -> SuiteError:
        mark = node.start_mark
        return SuiteError(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {path or 'the suite'} {what}", hint=hint)


def _kind(node: yaml.Node) -> str:
    if _is_null(node):
        return "empty"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a scalar"


def _type_name(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return "a name"
    return "text" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else "a number"
