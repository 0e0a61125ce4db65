"""The parts of the lab: which process each one is and how to tell that it is healthy.

Each part is a process of its own, so that a learner can see it, kill it and watch what survives.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from labkit import gateway
from labkit.lab.settings import LOOPBACK, Layout, Ports

REGISTRY_HOST = "registry.lab"
"""The registry's name in manifests; the agent maps it to the port that the registry really listens on."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the lab.

    Attributes:
        name: What it is called in `labkit status`, in its log file's name and in the journal.
        command: Program and arguments; stays in the foreground and ends on SIGTERM.
        healthy: Asks the process itself whether it serves; False when it does not answer.
    """

    name: str
    command: tuple[str, ...]
    healthy: Callable[[], bool]


def parts(layout: Layout, ports: Ports, registry: Path) -> tuple[Part, ...]:
    """All parts in the order of the article's picture, the registry's program being at `registry`."""

    def python(module: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", module, *arguments)

    kubeconfig, journal = str(layout.kubeconfig), str(layout.journal)
    return (
        Part(
            "kube",
            python(
                "labkit.kube.apiserver",
                *("--port", str(ports.kube), "--data", str(layout.run / "kube"), "--kubeconfig", kubeconfig),
                *("--journal", journal),
            ),
            lambda: layout.kubeconfig.exists() and _answers(f"http://{LOOPBACK}:{ports.kube}/readyz"),
        ),
        Part(
            "registry",
            (str(registry), "--address", f"{LOOPBACK}:{ports.registry}", "--disk", str(layout.run / "registry")),
            lambda: _answers(f"http://{LOOPBACK}:{ports.registry}/v2/"),
        ),
        Part(
            "controller",
            python(
                "labkit.controlplane",
                *("--kubeconfig", kubeconfig, "--port", str(ports.controller)),
                *("--gateway-port", str(ports.gateway), "--journal", journal),
            ),
            lambda: _speaks_http2(ports.controller),
        ),
        Part(
            "agent",
            python(
                "labkit.agent",
                *("--port", str(ports.agent), "--upstream", f"{LOOPBACK}:{ports.controller}"),
                *("--cache", str(layout.run / "agent"), "--envoy-admin", f"{LOOPBACK}:{ports.admin}"),
                *("--envoy-log", str(layout.logs / "gateway.log")),
                *("--journal", journal, "--mirror", f"{REGISTRY_HOST}={LOOPBACK}:{ports.registry}"),
            ),
            lambda: _speaks_http2(ports.agent),
        ),
        Part(
            "gateway",
            tuple(gateway.command(layout.bootstrap)),
            lambda: _answers(f"http://{LOOPBACK}:{ports.admin}/ready") and _listens(ports.gateway),
        ),
        Part(
            "upstreams",
            python("labkit.gateway.upstreams", f"foo={ports.foo}", f"bar={ports.bar}", f"other={ports.other}"),
            lambda: all(_answers(f"http://{LOOPBACK}:{port}/") for port in (ports.foo, ports.bar, ports.other)),
        ),
    )


def _answers(url: str) -> bool:
    try:
        # The user's proxy settings must not stand between the lab and itself.
        return httpx.get(url, timeout=1.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _speaks_http2(port: int) -> bool:
    """Whether a gRPC server answers: the kernel accepts connections for a process that is stopped, too."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = 4
    empty_settings = bytes((0, 0, 0, settings, 0, 0, 0, 0, 0))
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(preface + empty_settings)
            head = connection.recv(len(empty_settings))
            return len(head) > 3 and head[3] == settings
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False
