"""Compiled modules on disk: found again, never trusted when damaged, safe with many writers."""

from __future__ import annotations

import threading

import pytest
import wasmtime

from labkit.proxywasm import InvalidModule, Limits, Module, ModuleCache, Plugin, abi
from labkit.proxywasm._engine import EngineKey, engine_for

from .probe import probe_wat

CODE = bytes(wasmtime.wat2wasm(probe_wat(abi.V0_2_1, [])))


@pytest.fixture
def cache(tmp_path) -> ModuleCache:
    return ModuleCache(tmp_path / "cache")


@pytest.fixture
def compilations(monkeypatch):
    """Counts how often the plugin is really compiled."""
    count = []
    compile_ = ModuleCache._compile

    def counting(engine, code, name):
        if code == CODE:
            count.append(1)
        return compile_(engine, code, name)

    monkeypatch.setattr(ModuleCache, "_compile", staticmethod(counting))
    return count


def test_a_module_is_compiled_once(cache, compilations):
    for _ in range(3):
        Plugin.load(CODE, cache=cache)
    assert len(compilations) == 1
    assert oct(cache.directory.stat().st_mode & 0o777) == "0o700"


def test_without_a_directory_every_time(compilations):
    for _ in range(2):
        Plugin.load(CODE, cache=ModuleCache(None))
    assert len(compilations) == 2


def test_engines_and_contents_are_told_apart(cache):
    engines = [engine_for(EngineKey.of(limits)) for limits in (Limits(), Limits(fuel=1), Limits(stack=1 << 20))]
    paths = {cache.path(engine, code) for engine in engines for code in (CODE, CODE + b"\0\3\1x\0")}
    assert len(paths) == 6


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_file_is_made_anew(cache, compilations, damage):
    Module.load(CODE, cache=cache)
    path = cache.path(engine_for(EngineKey.of(Limits())), CODE)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2] if damage is None else damage)
    Plugin.load(CODE, cache=cache).request()
    assert len(compilations) == 2
    assert path.read_bytes() == good


def test_a_file_that_others_may_write_is_not_trusted(cache, compilations):
    Module.load(CODE, cache=cache)
    cache.path(engine_for(EngineKey.of(Limits())), CODE).chmod(0o666)
    Module.load(CODE, cache=cache)
    assert len(compilations) == 2


def test_a_directory_that_cannot_be_made_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert Plugin.load(CODE, cache=ModuleCache(tmp_path / "file" / "cache")).request().status == 200


def test_many_writers_at_once(cache):
    failures = []

    def load() -> None:
        try:
            assert Plugin.load(CODE, cache=cache).request().status == 200
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(path.suffix for path in cache.directory.iterdir()) == [".cwasm", ".sha256"]


def test_what_cannot_be_compiled_is_not_cached(cache):
    with pytest.raises(InvalidModule):
        Module.load(b"\0asm\1\0\0\0\xff", cache=cache)
    assert not cache.directory.exists()


def test_what_was_not_used_for_long_makes_room(tmp_path):
    cache = ModuleCache(tmp_path, limit=1)
    engine = engine_for(EngineKey.of(Limits()))
    codes = [CODE + b"\0\3\1x" + bytes([number]) for number in range(3)]
    for code in codes:
        cache.get(engine, code)
    assert [path.name for path in tmp_path.glob("*.cwasm")] == [cache.path(engine, codes[-1]).name]
    assert len(list(tmp_path.iterdir())) == 2
