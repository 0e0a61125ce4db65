"""The real chain without an API server: controller (fed by the test), agent and Envoy as processes, upstreams."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from labkit.controlplane import Controller
from labkit.controlplane.service import ControlPlane
from labkit.events import Event, Journal
from labkit.gateway import Admin, bootstrap, command
from labkit.gateway.upstreams import serve

from .registry import Registry

PATIENCE = 30.0


def free_ports(count: int) -> list[int]:
    """Ports nobody has, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what: str, attempt: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The first true result; fails loudly when there is none in time."""
    end = time.monotonic() + patience
    last: Any = None
    while time.monotonic() < end:
        last = attempt()
        if last:
            return last
        time.sleep(0.01)
    raise AssertionError(f"not within {patience:g} s: {what}; last: {last!r}")


@dataclass
class Load:
    """What a client under load saw."""

    bodies: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Chain:
    """Controller, agent and Envoy; Ingresses default/foo and default/bar."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.controller_port, self.agent_port, self.admin_port, self.gateway_port, foo, bar) = free_ports(6)
        self.journal = Journal(folder / "journal.jsonl")
        self.statuses: dict[str, dict[str, Any]] = {}
        self.status_writes = 0
        self.admin = Admin(f"127.0.0.1:{self.admin_port}")
        self.registry = Registry()
        self._plugins: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._upstreams = asyncio.run_coroutine_threadsafe(serve({"foo": foo, "bar": bar}), self._loop)
        self._objects = {
            "Service": [_service("foo"), _service("bar")],
            "EndpointSlice": [_slice("foo", foo), _slice("bar", bar)],
            "Ingress": [_ingress("foo"), _ingress("bar")],
            "Secret": [],
        }
        self.start_controller()
        self.start_agent()
        self.start_envoy()
        until("the gateway serves", lambda: self.get("/foo")[0])

    def start_controller(self) -> None:
        async def start() -> None:
            self.control_plane = ControlPlane(
                Controller("higress-system", self.gateway_port, self.journal), self._take_status
            )
            for kind, objects in {**self._objects, "WasmPlugin": list(self._plugins.values())}.items():
                self.control_plane.replace(kind, objects)
            await self.control_plane.server.start(self.controller_port)

        self._run(start())

    def stop_controller(self) -> None:
        self._run(self.control_plane.server.stop())

    def start_agent(self) -> None:
        arguments = ["--port", str(self.agent_port), "--upstream", f"127.0.0.1:{self.controller_port}"]
        arguments += ["--cache", str(self.folder / "cache"), "--envoy-admin", f"127.0.0.1:{self.admin_port}"]
        arguments += ["--journal", str(self.journal.path)]
        arguments += ["--mirror", f"registry.lab={self.registry.address}"]
        self._start("agent", [sys.executable, "-m", "labkit.agent", *arguments])

    def start_envoy(self) -> None:
        path = self.folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap(admin_port=self.admin_port, agent_port=self.agent_port)))
        self._start("envoy", list(command(path, concurrency=1)))

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def apply(self, name: str = "echo", namespace: str = "higress-system", **spec: Any) -> int:
        """Create or change a WasmPlugin; returns its generation."""
        before = self._plugins.get(name)
        generation = before["metadata"]["generation"] + 1 if before else 1
        uid = before["metadata"]["uid"] if before else f"{name}-{time.monotonic_ns()}"
        metadata = {"namespace": namespace, "name": name, "generation": generation, "uid": uid}
        self._plugins[name] = {"metadata": {**metadata, "resourceVersion": str(generation)}, "spec": spec}
        self.change("WasmPlugin", "MODIFIED" if before else "ADDED", self._plugins[name])
        return generation

    def delete(self, name: str) -> None:
        self.change("WasmPlugin", "DELETED", self._plugins.pop(name))

    def change(self, kind: str, event: str, resource: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self.control_plane.change, kind, event, resource)

    def condition(self, generation: int, name: str = "echo") -> dict[str, Any]:
        """The Ready condition of a generation, once it is not Unknown."""

        def ready() -> dict[str, Any] | None:
            status = self.statuses.get(name)
            if status is None or status["observedGeneration"] != generation:
                return None
            condition = status["conditions"][0]
            return condition if condition["status"] != "Unknown" else None

        return until(f"{name} generation {generation} is settled, not {self.statuses.get(name)}", ready)

    def get(self, path: str, host: str = "any.host") -> tuple[int, str]:
        """One request on a connection of its own; status 0 when nobody answers."""
        try:
            answer = httpx.get(self.url(path), headers={"host": host}, trust_env=False, timeout=PATIENCE)
        except httpx.TransportError as error:
            return 0, repr(error)
        return answer.status_code, answer.text

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.gateway_port}{path}"

    @contextmanager
    def load(self, path: str = "/foo") -> Iterator[Load]:
        """Requests without pause on a kept connection, until the block ends."""
        seen, stopping = Load(), threading.Event()

        def run() -> None:
            with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
                while not stopping.is_set():
                    try:
                        answer = client.get(self.url(path))
                    except httpx.HTTPError as error:
                        seen.failures.append(repr(error))
                        continue
                    (seen.bodies if answer.status_code == 200 else seen.failures).append(answer.text)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            until("requests flow", lambda: seen.bodies or seen.failures)
            yield seen
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    def steps(self, step: int, plugin: str = "higress-system/echo") -> list[Event]:
        return [event for event in self.journal.read() if (event.step, event.plugin) == (step, plugin)]

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()
        self.admin.close()
        self.registry.close()
        self._upstreams.cancel()
        with suppress(Exception):
            self.stop_controller()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _take_status(self, resource: Any, status: dict[str, Any]) -> None:
        self.statuses[resource["metadata"]["name"]] = status
        self.status_writes += 1

    def _start(self, name: str, arguments: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(arguments, stdout=log, stderr=log)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


def _service(name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name}, "spec": {"ports": [{"name": "http", "port": 80}]}}


def _slice(name: str, port: int) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"namespace": "default", "name": f"{name}-1", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }


def _ingress(name: str) -> dict[str, Any]:
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    path = {"path": f"/{name}", "pathType": "Prefix", "backend": backend}
    return {"metadata": {"namespace": "default", "name": name}, "spec": {"rules": [{"http": {"paths": [path]}}]}}
