"""The reader of wasm binaries: right on what wasmtime makes, MalformedModule on everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.wasm import MalformedModule, Memory, Module

HEADER = b"\0asm\x01\0\0\0"

SAMPLE = bytes(
    wasmtime.wat2wasm(
        """
        (module $sample
          (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
          (import "env" "table" (table 1 funcref))
          (import "env" "global" (global (mut i64)))
          (memory (export "memory") 2 5)
          (func $start (export "go"))
          (func (export "proxy_abi_version_0_2_1")))
        """
    )
)


def read_everything(data: bytes) -> None:
    module = Module.parse(data)
    for reading in ("imports", "exports", "memories", "function_names", "name"):
        getattr(module, reading)


def malformed_at(data: bytes) -> int | None:
    """Where reading everything fails with the one exception that it may fail with."""
    try:
        read_everything(data)
    except MalformedModule as error:
        return error.offset
    return None


def test_imports_exports_memories_and_names_are_read():
    module = Module.parse(SAMPLE)
    assert [(i.module, i.name, i.kind.name) for i in module.imports] == [
        ("env", "proxy_log", "FUNCTION"),
        ("env", "table", "TABLE"),
        ("env", "global", "GLOBAL"),
    ]
    assert [(e.name, e.index) for e in module.exports] == [("memory", 0), ("go", 1), ("proxy_abi_version_0_2_1", 2)]
    assert module.memories == (Memory(2, 5),)
    assert module.function_names == {0: "log", 1: "start"}
    assert module.name == "sample"


def test_a_module_compiled_by_go_is_read_as_wasmtime_reads_it(mock_module: Path):
    data = mock_module.read_bytes()
    module, known = Module.parse(data), wasmtime.Module(wasmtime.Engine(), data)
    assert [(i.module, i.name) for i in module.imports] == [(i.module, i.name) for i in known.imports]
    assert [e.name for e in module.exports] == [e.name for e in known.exports]
    assert any(name.startswith("main.onHttpRequestHeaders") for name in module.function_names.values())


def section(id: int, body: bytes) -> bytes:
    return bytes((id, len(body))) + body


@pytest.mark.parametrize(
    ("data", "problem", "offset"),
    [
        (b"", "does not begin", 0),
        (b"GIF89a", "does not begin", 0),
        (b"\0asm\x0d\0\x01\0", "component", 4),
        (b"\0asm\x02\0\0\0", "unknown version", 4),
        (HEADER + b"\x01", "ends too early", 9),
        (HEADER + b"\x01\x05\0", "5 bytes are announced, 1 are left", 10),
        (HEADER + b"\x01\x80\x80\x80\x80\x80\x00", "longer than 32 bits", 9),
        (HEADER + b"\x01\xff\xff\xff\xff\x7f", "fit into 32 bits", 9),
        (HEADER + section(99, b""), "no section number 99", 8),
        (HEADER + section(7, b"\0") + section(2, b"\0"), "out of order", 11),
        (HEADER + section(7, b"\0") + section(7, b"\0"), "there twice", 11),
        (HEADER + section(7, b"\x01\x01\xff\0\0"), "not UTF-8", 11),
        (HEADER + section(7, b"\x02\x01a\0\0\x01a\0\0"), "'a' is exported twice", 15),
        (HEADER + section(7, b"\x01\x01a\x09\0"), "no kind 9", 13),
        (HEADER + section(7, b"\x7f"), "127 entries are announced", 10),
        (HEADER + section(7, b"\0\0"), "1 bytes too many", 11),
        (HEADER + section(5, b"\x01\x10\0"), "unknown limits", 11),
    ],
)
def test_what_is_no_module_is_refused_with_its_offset(data: bytes, problem: str, offset: int):
    with pytest.raises(MalformedModule, match=problem) as caught:
        read_everything(data)
    assert caught.value.offset == offset


@given(st.binary(max_size=200))
def test_garbage_is_never_more_than_malformed(garbage: bytes):
    for data in (garbage, HEADER + garbage):
        assert 0 <= (malformed_at(data) or 0) <= len(data)


@settings(max_examples=300)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.integers(0, len(SAMPLE)))
def test_a_damaged_module_is_never_more_than_malformed(place: int, value: int, length: int):
    damaged = SAMPLE[:place] + bytes((value,)) + SAMPLE[place + 1 :]
    for data in (damaged, SAMPLE[:length]):
        assert 0 <= (malformed_at(data) or 0) <= len(data)
