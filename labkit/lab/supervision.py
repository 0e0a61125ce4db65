"""Supervision of the parts by supervisord: started once, restarts what crashes, stops everything at the end.

supervisord (https://supervisord.org) runs as a daemon of its own, so the lab outlives the command that started it.
Its RPC interface listens on loopback behind a password that only the lab's state file holds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from labkit.lab.errors import PartFailed
from labkit.lab.parts import Part
from labkit.lab.settings import LOOPBACK, Layout

RUN_VARIABLE = "LABKIT_RUN"
"""Set in every process of a lab to its run directory: what finds them again when the supervisor was killed."""

WATCHER = "watcher"

_STATES = {
    "RUNNING": "running",
    "STARTING": "starting",
    "BACKOFF": "restarting",
    "EXITED": "restarting",
    "FATAL": "failed",
    "STOPPED": "stopped",
    "STOPPING": "stopping",
    "UNKNOWN": "failed",
}


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor knows of one process: `state` is one of the words of `labkit status`."""

    name: str
    state: str
    pid: int | None


class Supervisor:
    """One supervisord, reached over its RPC interface.

    Args:
        layout: Where its configuration and logs are.
        port: The loopback port of its RPC interface.
        password: What a caller must know.
    """

    def __init__(self, layout: Layout, port: int, password: str) -> None:
        self._layout = layout
        self._port = port
        self._password = password
        self._rpc = xmlrpc.client.ServerProxy(f"http://labkit:{password}@{LOOPBACK}:{port}/RPC2")

    def start(self, parts: Sequence[Part]) -> None:
        """Start supervisord with `parts`; returns when it answers.

        Raises:
            PartFailed: supervisord itself did not start.
        """
        configuration = self._layout.run / "supervisord.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(self._configuration(parts), encoding="utf-8")
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self._layout.run,
            env={**os.environ, RUN_VARIABLE: str(self._layout.run), "PYTHONUNBUFFERED": "1"},
        )
        deadline = time.monotonic() + 20
        while not self.answers():
            if started.returncode or time.monotonic() > deadline:
                raise PartFailed(
                    "the supervisor did not start",
                    hint=f"see {self._layout.logs / 'supervisord.log'}",
                    details=(started.stdout + started.stderr).strip() or None,
                )
            time.sleep(0.02)

    def _configuration(self, parts: Sequence[Part]) -> str:
        # Paths are relative to the run directory, in which supervisord is started: it expands some of these values
        # twice, so a per cent sign in an absolute path could not be written.
        layout = self._layout
        sections = [
            "[supervisord]",
            "logfile=logs/supervisord.log",
            "pidfile=supervisord.pid",
            "",
            "[inet_http_server]",
            f"port={LOOPBACK}:{self._port}",
            "username=labkit",
            f"password={self._password}",
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "",
            f"[eventlistener:{WATCHER}]",
            f"command={_command((sys.executable, '-m', 'labkit.lab.watcher', str(layout.journal)))}",
            "events=PROCESS_STATE",
            "stderr_logfile=logs/watcher.log",
            "stdout_logfile=NONE",
            "buffer_size=1000",
        ]
        for part in parts:
            sections += [
                "",
                f"[program:{part.name}]",
                f"command={_command(part.command)}",
                f"stdout_logfile=logs/{part.name}.log",
                "stdout_logfile_maxbytes=10MB",
                "stdout_logfile_backups=1",
                "redirect_stderr=true",
                "autorestart=true",
                "startsecs=1",
                "startretries=3",
                "stopwaitsecs=5",
                "killasgroup=true",
            ]
        return "\n".join(sections) + "\n"

    def log(self, name: str) -> Path:
        """Where the part `name` logs to."""
        return self._layout.logs / f"{name}.log"

    def answers(self) -> bool:
        """Whether this supervisor is running."""
        try:
            return bool(self._rpc.supervisor.getPID())
        except (OSError, xmlrpc.client.Error):
            return False

    def processes(self) -> list[ProcessState]:
        """All parts with their state and process id."""
        found = self._rpc.supervisor.getAllProcessInfo()
        assert isinstance(found, list)
        return [
            ProcessState(info["name"], _STATES.get(info["statename"], "failed"), info["pid"] or None)
            for info in found
            if info["name"] != WATCHER
        ]

    def start_failed(self) -> None:
        """Start again what crashed so often that it was given up."""
        for process in self.processes():
            if process.state in {"failed", "stopped"}:
                self._rpc.supervisor.startProcess(process.name, False)

    def stop(self) -> None:
        """Stop every part and supervisord itself; returns when none of them is left."""
        try:
            supervisord = psutil.Process(int(str(self._rpc.supervisor.getPID())))
            self._rpc.supervisor.shutdown()
        except (OSError, xmlrpc.client.Error, psutil.NoSuchProcess):
            return
        try:
            supervisord.wait(timeout=15)
        except psutil.TimeoutExpired:
            supervisord.kill()


def sweep(run: Path) -> None:
    """End what is left of a lab whose supervisor was killed: every process of ours that carries its run directory."""
    left = [process for process in psutil.process_iter() if _belongs(process, run)]
    for process in left:
        _signal(process.terminate)
    _, stubborn = psutil.wait_procs(left, timeout=5)
    for process in stubborn:
        _signal(process.kill)
    psutil.wait_procs(stubborn, timeout=5)


def _belongs(process: psutil.Process, run: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(RUN_VARIABLE) == str(run)
    except (psutil.Error, OSError):
        return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def _command(words: Sequence[str]) -> str:
    # supervisord expands %(…)s and splits like a shell: every per cent sign is doubled, every word quoted.
    return " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"' for word in words)
