"""Making Higress modules fit upstream Envoy: the marker's name changes, nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from labkit.wasm import AbiMarkerError, MalformedModule, Module, UnsupportedImports, abi_versions, fit


def module(*markers: str, imports: tuple[str, ...] = (), extra: str = "") -> bytes:
    lines = [f'(import "{name.split(".")[0]}" "{name.split(".")[1]}" (func))' for name in imports]
    lines += [f'(func (export "proxy_abi_version_{marker}"))' for marker in markers]
    return bytes(wasmtime.wat2wasm(f"(module {' '.join(lines)} {extra})"))


def test_the_compiled_plugin_is_fitted(mock_module: Path):
    original = mock_module.read_bytes()
    fitted = fit(original)
    assert (fitted.changed, fitted.original_abi, fitted.abi) == (True, "0.2.100", "0.2.1")
    assert abi_versions(Module.parse(fitted.content)) == ("0.2.1",)
    wasmtime.Module.validate(wasmtime.Engine(), fitted.content)
    assert fit(original) == fitted
    again = fit(fitted.content)
    assert (again.changed, again.content) == (False, fitted.content)


def test_all_but_the_marker_stays_as_it_was(mock_module: Path):
    before = Module.parse(mock_module.read_bytes())
    after = Module.parse(fit(before.data).content)
    for old, new in zip(before.sections, after.sections, strict=True):
        if old.id != 7:
            assert before.data[old.start : old.end] == after.data[new.start : new.end]
    marker = "proxy_abi_version_0_2_1"
    assert [(marker if "abi_version" in e.name else e.name, e.kind, e.index) for e in before.exports] == [
        (e.name, e.kind, e.index) for e in after.exports
    ]


@given(st.lists(st.text("abcé_", min_size=1, max_size=150), unique=True, max_size=12), st.integers(0, 12))
def test_any_export_section_survives_fitting(names: list[str], place: int):
    exports = [f'(func (export "{name}"))' for name in names]
    exports.insert(place, '(func (export "proxy_abi_version_0_2_100"))')
    fitted = fit(bytes(wasmtime.wat2wasm(f"(module {' '.join(exports)})")))
    wasmtime.Module.validate(wasmtime.Engine(), fitted.content)
    assert set(names) | {"proxy_abi_version_0_2_1"} == {e.name for e in Module.parse(fitted.content).exports}


@pytest.mark.parametrize("version", ["0_1_0", "0_2_0", "0_2_1"])
def test_a_module_for_upstream_envoy_is_left_alone(version: str):
    content = module(version, imports=("env.proxy_log",))
    fitted = fit(content)
    assert (fitted.content, fitted.changed, fitted.digest) == (content, False, fitted.module_digest)


def test_every_import_that_upstream_lacks_is_named():
    wanted = ("env.proxy_redis_call", "env.proxy_log", "env.proxy_redis_init", "env.mine")
    with pytest.raises(UnsupportedImports) as caught:
        fit(module("0_2_100", imports=wanted))
    assert caught.value.imports == ("env.proxy_redis_call", "env.proxy_redis_init", "env.mine")
    assert caught.value.higress_only == ("env.proxy_redis_call", "env.proxy_redis_init")
    assert "Higress" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (module(), "no proxy-wasm ABI marker"),
        (module("0_2_1", "0_2_100"), "2 proxy-wasm ABI markers: 0.2.1, 0.2.100"),
        (module("0_9_0"), "version 0.9.0"),
        (
            module("0_2_100", extra='(global (export "proxy_abi_version_0_2_1") i32 (i32.const 0))'),
            "something else than a function",
        ),
    ],
)
def test_an_unclear_marker_is_refused(content: bytes, message: str):
    with pytest.raises(AbiMarkerError, match=message):
        fit(content)


def test_what_is_no_module_is_refused():
    with pytest.raises(MalformedModule):
        fit(b"#!/bin/sh")
