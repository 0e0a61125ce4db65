"""What a lab is made of before it runs: its directory and its ports."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil

from labkit import resources
from labkit.lab.errors import PortTaken

LOOPBACK = "127.0.0.1"


def default_home() -> Path:
    """`$LABKIT_HOME`, else `.labkit` in the checkout, else the user's state directory."""
    if home := os.environ.get("LABKIT_HOME"):
        return Path(home).resolve()
    if checkout := resources.checkout():
        return checkout / ".labkit"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "labkit"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "labkit"


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one lab. `run` lives from `up` to `down`; `cache` is kept, it only saves time."""

    home: Path

    @property
    def cache(self) -> Path:
        """Compiled programs and modules, keyed by what they were made from."""
        return self.home / "cache"

    @property
    def run(self) -> Path:
        """All state and logs of the running lab."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """One log file a part."""
        return self.run / "logs"

    @property
    def state(self) -> Path:
        """The ports and the supervisor's address and secret, as JSON; there while the lab is up."""
        return self.run / "lab.json"

    @property
    def journal(self) -> Path:
        """The journal of the ten steps (`labkit.events.Journal`); a build before `up` belongs to it too."""
        return self.home / "journal.jsonl"

    @property
    def kubeconfig(self) -> Path:
        """How to reach the lab's API server."""
        return self.run / "kubeconfig"

    @property
    def bootstrap(self) -> Path:
        """Envoy's bootstrap: the agent's address and nothing else."""
        return self.run / "envoy.json"


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of the lab's parts on 127.0.0.1; 0 means: pick a free one."""

    gateway: int = 0
    admin: int = 0
    kube: int = 0
    registry: int = 0
    controller: int = 0
    agent: int = 0
    supervisor: int = 0
    foo: int = 0
    bar: int = 0
    other: int = 0

    def picked(self) -> Ports:
        """These ports with every 0 replaced by a free one.

        Raises:
            PortTaken: A port that was asked for is in use, or was asked for twice.
        """
        asked: dict[int, str] = {}
        for field in fields(self):
            wanted: int = getattr(self, field.name)
            if wanted and wanted in asked:
                raise PortTaken(
                    f"port {wanted} was asked for twice: for the {asked[wanted]} and the {field.name}",
                    hint=f"choose another with --{field.name}-port",
                )
            asked[wanted] = field.name
        with ExitStack() as held:
            chosen: dict[str, int] = {}
            for field in fields(self):
                wanted = getattr(self, field.name)
                listener = held.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((LOOPBACK, wanted))
                    # Without listening, SO_REUSEADDR would let two of these share a port.
                    listener.listen(1)
                except OSError as error:
                    raise _taken(field.name, wanted, error) from error
                chosen[field.name] = listener.getsockname()[1]
        return replace(self, **chosen)


def _port(address: object) -> int | None:
    return getattr(address, "port", None)


def _taken(name: str, port: int, error: OSError) -> PortTaken:
    owner = ""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and _port(connection.laddr) == port and connection.pid:
                owner = f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        # Some systems show other users' sockets to root only; the message is complete without the owner.
        owner = ""
    return PortTaken(
        f"port {port} for the {name} is taken{owner}: {error.strerror or error}",
        hint=f"choose another with --{name}-port, or leave the option out and a free one is picked",
    )
