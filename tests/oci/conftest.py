"""The lab's registry program as a real process, and a Docker engine of the tests' own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from labkit import oci, resources, toolchains

DEADLINE = 30.0


class Registry:
    """A registry process that can be killed and started again on the same port and directory."""

    def __init__(self, program: Path, place: Path) -> None:
        self.program = program
        self.disk = place / "disk"
        self.log = place / "log"
        self.port = 0
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as log:
            arguments = ["--address", f"127.0.0.1:{self.port}", "--disk", str(self.disk)]
            self.process = subprocess.Popen([self.program, *arguments], stderr=log)
        deadline = time.monotonic() + DEADLINE
        while not (match := re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.port = int(match[1])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, **options: object) -> oci.RegistryClient:
        return oci.RegistryClient(mirrors={"registry.lab": self.address}, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def registry_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toolchains.build_tool(resources.path("tools"), "registry", tmp_path_factory.mktemp("tools")).path


@pytest.fixture
def registry(registry_program: Path, tmp_path: Path) -> Iterator[Registry]:
    running = Registry(registry_program, tmp_path)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerClient]:
    """A dockerd of the tests' own: no network, no state outside its directory."""
    if shutil.which("dockerd") is None:
        pytest.skip("no dockerd: apt-get install docker.io (scripts/system-packages)")
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    place = tmp_path_factory.mktemp("dockerd")
    socket, log = place / "docker.sock", place / "log"
    command = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
    command += ["--data-root", str(place / "data"), "--exec-root", str(place / "exec")]
    command += ["--pidfile", str(place / "pid"), "--host", f"unix://{socket}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + DEADLINE
        while "API listen on" not in log.read_text():
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)
        engine = docker.DockerClient(base_url=f"unix://{socket}")
        yield engine
        engine.close()
    finally:
        process.terminate()
        process.wait()
