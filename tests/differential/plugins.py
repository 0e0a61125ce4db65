"""The test plugins: where their sources are, how each language is compiled, how the hosts are to run them.

Modules are built once for each state of their sources and kept in pytest's cache. A language whose compiler is not
there is left out with a reason; its tests skip.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import wasmtime

from labkit.toolchains import ToolchainMissing, find_go

SOURCES = Path(__file__).resolve().parent.parent / "plugins"


class CompilerMissing(Exception):
    """This machine cannot compile the language; the text says what would help."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A test plugin and how a host runs it.

    Attributes:
        name: Its name in both hosts, and its root id.
        source: The source file (or directory) below tests/plugins; the first part is the language.
        configuration: What it is configured with.
        policy: What happens to requests once it trapped: FAIL_CLOSED, FAIL_OPEN or FAIL_RELOAD.
    """

    name: str
    source: str
    configuration: str = ""
    policy: str = "FAIL_CLOSED"

    @property
    def language(self) -> str:
        return self.source.partition("/")[0]


WRAPPED = (
    '{"name": "default", "_rules_": ['
    '{"_match_domain_": ["*.example.com"], "name": "example"},'
    '{"_match_domain_": ["reply.test"], "name": "reply", "reply": true},'
    '{"_match_route_prefix_": ["none-"], "name": "never"}]}'
)

TRAPS = "qbtrdulo"
"""The phases in which a plugin of its own traps: a VM that trapped is of no use to another test."""

PLUGINS = {
    plugin.name: plugin
    for plugin in (
        Plugin("script", "c/script.c"),
        *(Plugin(f"trap-closed-{phase}", "c/script.c") for phase in TRAPS),
        *(Plugin(f"trap-open-{phase}", "c/script.c", policy="FAIL_OPEN") for phase in TRAPS),
        Plugin("trap-reload", "c/script.c", policy="FAIL_RELOAD"),
        Plugin("queue", "c/queue.c"),
        Plugin("stamp", "zig/stamp.zig"),
        Plugin("as-headers", "assemblyscript/headers.ts", configuration="configured"),
        Plugin("auth", "rust/auth"),
        Plugin("body", "rust/body"),
        Plugin("relay", "go/relay", configuration="callout"),
        Plugin("relay-refused", "go/relay", configuration="refused"),
        Plugin("wrapped", "go/wrapped", configuration=WRAPPED),
        Plugin("deferred", "wat/deferred.wat"),
        Plugin("legacy", "wat/legacy.wat", configuration="an old plugin"),
    )
}


def build(source: str, cache: Path) -> Path:
    """The compiled module of a source below tests/plugins.

    Raises:
        CompilerMissing: This machine lacks what its language needs.
        RuntimeError: It does not compile; the text has the compiler's words.
    """
    language, _, name = source.partition("/")
    directory = SOURCES / language
    target = cache / f"{language}-{Path(name).stem}-{_digest(directory)}.wasm"
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        _COMPILERS[language](directory, name, unfinished, cache)
        os.replace(unfinished, target)
    return target


def _digest(directory: Path) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(directory)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _compile_c(directory: Path, name: str, target: Path, _: Path) -> None:
    flags = ["-O2", "-nostdlib", "-Wall", "-Wextra", "-Wno-unused-function", "-Wl,--no-entry"]
    _run([*_zig(), "cc", "--target=wasm32-freestanding", *flags, "-o", target, directory / name])


def _compile_zig(directory: Path, name: str, target: Path, _: Path) -> None:
    flags = ["-target", "wasm32-freestanding", "-O", "ReleaseSmall", "-fno-entry", "-rdynamic"]
    _run([*_zig(), "build-exe", *flags, f"-femit-bin={target}", directory / name])


def _zig() -> list[str | Path]:
    if importlib.util.find_spec("ziglang") is None:
        raise CompilerMissing("C and Zig plugins need the package ziglang: pip install ziglang")
    return [sys.executable, "-m", "ziglang"]


def _compile_wat(directory: Path, name: str, target: Path, _: Path) -> None:
    target.write_bytes(wasmtime.wat2wasm((directory / name).read_text()))


def _compile_go(directory: Path, name: str, target: Path, _: Path) -> None:
    try:
        go = find_go().command
    except ToolchainMissing as missing:
        raise CompilerMissing(str(missing)) from missing
    environment = {"GOOS": "wasip1", "GOARCH": "wasm", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    command = [go, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", target, f"./{name}"]
    _run(command, directory, environment)


def _compile_assemblyscript(directory: Path, name: str, target: Path, cache: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise CompilerMissing("AssemblyScript plugins need Node.js with npm: apt-get install nodejs npm")
    place = cache / "assemblyscript"
    _copy(directory, place)
    _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], place)
    compiler = place / "node_modules" / ".bin" / "asc"
    _run([compiler, name, "-b", target, "--use", "abort=abort_proc_exit", "--optimize", "--noColors"], place)


def _compile_rust(directory: Path, name: str, target: Path, cache: Path) -> None:
    """With the current toolchain when it has a wasm target, else with Debian's, which is older but has one.

    Debian's cargo cannot read today's registry, so the other one fetches the crates for it.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise CompilerMissing("Rust plugins need cargo: https://rustup.rs")
    place = cache / "rust"
    _copy(directory, place)
    for triple in ("wasm32-wasip1", "wasm32-wasi"):
        if _has_target("rustc", triple):
            _run([cargo, "build", "--release", "--locked", "--target", triple], place)
            break
    else:
        triple, debian = "wasm32-wasi", Path("/usr/bin")
        if not _has_target(debian / "rustc", triple):
            raise CompilerMissing("Rust plugins need a wasm target: rustup target add wasm32-wasip1")
        if Path(cargo) == debian / "cargo":
            raise CompilerMissing("Rust plugins need a current cargo on PATH to fetch crates: https://rustup.rs")
        fetched = _run([cargo, "vendor", "--locked", "vendor"], place)
        (place / ".cargo").mkdir(exist_ok=True)
        (place / ".cargo" / "config.toml").write_text(fetched)
        offline = {"RUSTC": str(debian / "rustc"), "CARGO_HOME": str(place / "home"), "RUSTUP_TOOLCHAIN": ""}
        _run([debian / "cargo", "build", "--release", "--offline", "--target", triple], place, offline)
    shutil.copyfile(place / "target" / triple / "release" / f"{name}.wasm", target)


def _has_target(compiler: str | Path, triple: str) -> bool:
    try:
        found = subprocess.run(
            [compiler, "--print", "target-libdir", "--target", triple], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return any(Path(found.stdout.strip()).glob("libstd-*.rlib"))


def _copy(directory: Path, place: Path) -> None:
    """Sources beside what compilers leave behind, so that the checkout stays clean and rebuilds are quick."""
    shutil.copytree(directory, place, dirs_exist_ok=True)


def _run(
    command: Iterable[str | Path], directory: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    words = [str(word) for word in command]
    merged = os.environ | (environment or {})
    done = subprocess.run(words, cwd=directory, env=merged, capture_output=True, text=True, check=False)
    if done.returncode:
        output = re.sub(r"\n{3,}", "\n\n", done.stdout + done.stderr).strip()
        raise RuntimeError(f"`{' '.join(words)}` failed with {done.returncode}:\n{output}")
    return done.stdout


_COMPILERS: dict[str, Callable[[Path, str, Path, Path], None]] = {
    "assemblyscript": _compile_assemblyscript,
    "c": _compile_c,
    "go": _compile_go,
    "rust": _compile_rust,
    "wat": _compile_wat,
    "zig": _compile_zig,
}
