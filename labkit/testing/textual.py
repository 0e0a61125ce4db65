"""The value that a scalar of YAML stands for, given the field that it is for.

The field decides, as in the original tester: `value: 200` is the text "200" and `invert: 'true'` is a truth value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_TRUE = frozenset(("true", "yes", "on", "y"))
_FALSE = frozenset(("false", "no", "off", "n"))
_NUMBER = re.compile(r"[+-]?(0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")


class NotThisType(ValueError):
    """The scalar is none of the field's type; the text says of which."""


def scalar(field: FieldDescriptor, text: str) -> Any:
    """The value for `field`.

    Raises:
        NotThisType: There is none.
    """
    return _READERS[field.type](field, text)


def _bytes(field: FieldDescriptor, text: str) -> bytes:
    return text.encode()


def _string(field: FieldDescriptor, text: str) -> str:
    return text


def _bool(field: FieldDescriptor, text: str) -> bool:
    word = text.lower()
    # "tRUE" is no word of YAML.
    if text in (word, word.upper(), word.capitalize()) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise NotThisType("true or false")


def _number(field: FieldDescriptor, text: str) -> int:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise NotThisType("a whole number")
    digits = found[1]
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    value = int(digits, base) * (-1 if text.startswith("-") else 1)
    bits = 64 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64) else 32
    signed = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise NotThisType(f"between {low} and {high}")
    return value


def _enum(field: FieldDescriptor, text: str) -> int:
    assert field.enum_type is not None
    values = {value.name: value.number for value in field.enum_type.values}
    if text in values:
        return values[text]
    if text.isdecimal() and int(text) in values.values():
        return int(text)
    raise NotThisType(f"one of {', '.join(values)}")


_READERS: dict[int, Callable[[FieldDescriptor, str], Any]] = {
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_ENUM: _enum,
    FieldDescriptor.TYPE_INT32: _number,
    FieldDescriptor.TYPE_INT64: _number,
    FieldDescriptor.TYPE_UINT32: _number,
    FieldDescriptor.TYPE_UINT64: _number,
}
