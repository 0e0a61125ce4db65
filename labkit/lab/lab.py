"""The lab: all parts started, watched and stopped together."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit import gateway, kube, resources, toolchains
from labkit.errors import UsageError
from labkit.events import LIFECYCLE, Journal
from labkit.lab import quickstart
from labkit.lab.errors import LabNotRunning, PartFailed
from labkit.lab.parts import Part, parts
from labkit.lab.settings import LOOPBACK, Layout, Ports, default_home
from labkit.lab.supervision import ProcessState, Supervisor, sweep

Progress = Callable[[str], None]
"""Called with one short line whenever there is something new to show."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part as `labkit status` shows it.

    Attributes:
        name: kube, registry, controller, agent, gateway or upstreams.
        pid: Its process, or None while there is none.
        state: running, starting, restarting, unhealthy (runs but does not answer), failed or stopped.
        restarts: How often it was restarted after a crash since the lab came up.
        log: Its log file.
    """

    name: str
    pid: int | None
    state: str
    restarts: int
    log: str


@dataclass(frozen=True, slots=True)
class Status:
    """The whole lab: enough for any outside program to apply a manifest and send a request.

    Attributes:
        state: up (all parts are running), degraded (some are not), broken (the supervisor is gone) or down.
        gateway: `url` for requests and `admin` for Envoy's admin interface.
        kubeconfig: Path of the kubeconfig.
        registry: host:port of the registry; manifests may also call it `registry.lab`.
        parts: One entry a part.
    """

    state: str
    gateway: Mapping[str, str] | None = None
    kubeconfig: str | None = None
    registry: str | None = None
    parts: tuple[PartStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document that `labkit status --json` prints."""
        return asdict(self)


class Lab:
    """The lab of one home directory, whether it is running or not.

    Args:
        home: Where state, logs and caches live; `default_home()` when left out.

    >>> lab = Lab()
    >>> lab.up().gateway["url"]
    'http://127.0.0.1:43521'
    >>> lab.down()
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self.layout = Layout(Path(home).resolve() if home else default_home())
        self.journal = Journal(self.layout.journal)

    def up(self, ports: Ports | None = None, on_progress: Progress = lambda line: None) -> Status:
        """Start every part and wait until all are healthy; nothing happens when they already are.

        A lab whose supervisor was killed is taken up with all its state.

        Raises:
            PortTaken: A port in `ports` is in use.
            PartFailed: A part did not become healthy; what had been started is stopped again.
        """
        ports = ports or Ports()
        with self.exclusively():
            state = self.status().state
            if state != "down" and self._other_ports(ports):
                raise UsageError(
                    "the lab is already up on other ports", hint="stop it first: labkit down; or leave the port out"
                )
            if state in {"up", "degraded"}:
                self._supervisor().start_failed()
                self._wait_healthy(self._parts(), on_progress)
                return self.status()
            if state == "broken":
                on_progress("taking up a lab whose supervisor was killed")
                sweep(self.layout.run)
                self._supervise(on_progress)
                return self.status()
            try:
                self._start(ports, on_progress)
            except BaseException:
                self._clear()
                raise
            return self.status()

    def _start(self, wanted: Ports, on_progress: Progress) -> None:
        on_progress("building the registry")
        registry = toolchains.build_tool(
            resources.path("tools"), "registry", self.layout.cache, on_progress=on_progress
        ).path
        ports = wanted.picked()
        shutil.rmtree(self.layout.run, ignore_errors=True)
        self.layout.logs.mkdir(parents=True)
        for name in ("kube", "registry", "agent"):
            (self.layout.run / name).mkdir()
        bootstrap = gateway.bootstrap(agent_port=ports.agent, admin_port=ports.admin)
        self.layout.bootstrap.write_text(json.dumps(bootstrap, indent=2), encoding="utf-8")
        self._save({"ports": asdict(ports), "password": secrets.token_urlsafe(24), "registry": str(registry)})
        self._supervise(on_progress)

    def _supervise(self, on_progress: Progress) -> None:
        """Start the parts that the saved state describes and wait until they are healthy."""
        started = self._parts()
        self.journal.record(LIFECYCLE, part="lab", name="starting")
        on_progress(f"starting {', '.join(part.name for part in started)}")
        self._supervisor().start(started)
        self._wait_healthy(started[:1], on_progress)
        quickstart.install(self.kube(), self.ports, on_progress)
        self._wait_healthy(started, on_progress)
        self.journal.record(LIFECYCLE, part="lab", name="up")

    def _wait_healthy(self, parts: tuple[Part, ...], on_progress: Progress, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        supervisor = self._supervisor()
        for part in parts:
            shown = False
            while not part.healthy():
                if not shown:
                    on_progress(f"waiting for {part.name}")
                    shown = True
                process = next((p for p in supervisor.processes() if p.name == part.name), None)
                if (process and process.state == "failed") or time.monotonic() > deadline:
                    log = supervisor.log(part.name)
                    raise PartFailed(
                        f"{part.name} did not become healthy",
                        hint="the end of its log says why; labkit doctor checks what the lab needs",
                        details=_tail(log, 15),
                    )
                time.sleep(0.02)

    def down(self, on_progress: Progress = lambda line: None) -> None:
        """Stop every part and remove the lab's state and logs; caches stay. A no-op when the lab is down."""
        with self.exclusively():
            on_progress("stopping all parts")
            self._clear()
            self.layout.journal.unlink(missing_ok=True)

    def _clear(self) -> None:
        if self.layout.state.exists():
            self._supervisor().stop()
        sweep(self.layout.run)
        shutil.rmtree(self.layout.run, ignore_errors=True)

    def status(self) -> Status:
        """How every part is right now; asks the processes themselves."""
        if not self.layout.state.exists():
            return Status("down")
        ports, supervisor = self.ports, self._supervisor()
        if not supervisor.answers():
            return Status("broken")
        healthy = {part.name: part for part in self._parts()}
        restarts = self._restarts()
        found = tuple(
            PartStatus(
                name=process.name,
                pid=process.pid,
                state=_state(process, healthy[process.name]),
                restarts=restarts.get(process.name, 0),
                log=str(supervisor.log(process.name)),
            )
            for process in sorted(supervisor.processes(), key=lambda p: list(healthy).index(p.name))
        )
        return Status(
            state="up" if all(part.state == "running" for part in found) else "degraded",
            gateway={
                "url": f"http://{LOOPBACK}:{ports.gateway}",
                "admin": f"http://{LOOPBACK}:{ports.admin}",
            },
            kubeconfig=str(self.layout.kubeconfig),
            registry=f"{LOOPBACK}:{ports.registry}",
            parts=found,
        )

    def _restarts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for event in self.journal.read():
            if event.step == LIFECYCLE and event.part == "lab" and event.name == "starting":
                counts.clear()
            elif event.step == LIFECYCLE and event.name == "restarted":
                counts[event.part] = counts.get(event.part, 0) + 1
        return counts

    @property
    def ports(self) -> Ports:
        """The ports of the running lab.

        Raises:
            LabNotRunning: There is none.
        """
        return Ports(**self._state()["ports"])

    def require_up(self) -> Status:
        """The status of the lab, which must be running.

        Raises:
            LabNotRunning: It is down, or its supervisor is gone.
        """
        status = self.status()
        if status.state == "down":
            raise LabNotRunning
        if status.state == "broken":
            raise LabNotRunning("the lab's supervisor was killed, nobody watches its parts any more")
        return status

    def kube(self) -> kube.Client:
        """A client of the lab's API server."""
        return kube.Client(self.layout.kubeconfig)

    def part_names(self) -> list[str]:
        """What the parts are called.

        Raises:
            LabNotRunning: The lab is down.
        """
        return [part.name for part in self._parts()]

    def log(self, part: str) -> Path:
        """The log file of one part.

        Raises:
            LabNotRunning: The lab is down.
            UsageError: There is no such part.
        """
        names = self.part_names()
        if part not in (*names, "supervisord", "watcher"):
            raise UsageError(f"the lab has no part {part!r}", hint=f"its parts are: {', '.join(names)}")
        return self.layout.logs / f"{part}.log"

    def _parts(self) -> tuple[Part, ...]:
        return parts(self.layout, self.ports, Path(self._state()["registry"]))

    def _supervisor(self) -> Supervisor:
        return Supervisor(self.layout, self.ports.supervisor, self._state()["password"])

    def _state(self) -> dict[str, Any]:
        try:
            found = json.loads(self.layout.state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LabNotRunning from None
        assert isinstance(found, dict)
        return found

    def _save(self, state: dict[str, Any]) -> None:
        partial = self.layout.state.with_suffix(".tmp")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(self.layout.state)

    def _other_ports(self, wanted: Ports) -> bool:
        running = asdict(self.ports)
        return any(port and running[name] != port for name, port in asdict(wanted).items())

    @contextmanager
    def exclusively(self, what: str = "lab") -> Iterator[None]:
        """One at a time of those that name the same thing; a second one waits. `up` and `down` name the lab."""
        self.layout.home.mkdir(parents=True, exist_ok=True)
        with (self.layout.home / f"{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _state(process: ProcessState, part: Part) -> str:
    if process.state in {"running", "starting"}:
        return "running" if part.healthy() else ("unhealthy" if process.state == "running" else "starting")
    return process.state


def _tail(path: Path, lines: int) -> str | None:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) or None
    except FileNotFoundError:
        return None
