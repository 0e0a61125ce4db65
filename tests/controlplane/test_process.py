"""The controller as a process, against a real API server that comes, goes and comes back."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from labkit import resources
from labkit.controlplane.snapshot import EXTENSION, LISTENER
from labkit.kube import Client, ready_condition

PATIENCE = 30.0


def until(what: str, attempt: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := attempt():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


class Gateway:
    """A client of the controller that answers as the test says."""

    def __init__(self, port: int) -> None:
        self._requests: queue.Queue[DiscoveryRequest | None] = queue.Queue()
        self.responses: queue.Queue[DiscoveryResponse] = queue.Queue()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._call = stub.StreamAggregatedResources(iter(self._requests.get, None), wait_for_ready=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self.responses.put(response)
        except grpc.RpcError:
            pass

    def ask(self, type_url: str, *names: str) -> DiscoveryResponse:
        self._requests.put(DiscoveryRequest(type_url=type_url, resource_names=names))
        return self.next()

    def next(self) -> DiscoveryResponse:
        return self.responses.get(timeout=PATIENCE)

    def answer(self, response: DiscoveryResponse, *names: str, error: str = "") -> None:
        request = DiscoveryRequest(type_url=response.type_url, resource_names=names, response_nonce=response.nonce)
        if error:
            request.error_detail.message = error
        self._requests.put(request)

    def close(self) -> None:
        self._call.cancel()
        self._requests.put(None)
        self._channel.close()


class Server:
    """An API server that can be killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kubeconfig, self.port = folder, folder / "kubeconfig", free_port()

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--data", str(self.folder / "data")]
        arguments += ["--kubeconfig", str(self.kubeconfig)]
        self.process = subprocess.Popen([sys.executable, "-m", "labkit.kube.apiserver", *arguments])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.kill()


@pytest.fixture
def gateway(server: Server, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway at a controller that was started before its API server and its CRD were there."""
    port = free_port()
    arguments = ["--kubeconfig", str(server.kubeconfig), "--port", str(port), "--gateway-port", str(free_port())]
    arguments += ["--journal", str(tmp_path / "journal.jsonl")]
    controller = subprocess.Popen([sys.executable, "-m", "labkit.controlplane", *arguments])
    client = Gateway(port)
    server.start()
    yield client
    client.close()
    controller.send_signal(signal.SIGTERM)
    assert controller.wait(timeout=10) == 0


def plugin(**spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "higress-system", "name": "mock"}
    body = {"apiVersion": "extensions.higress.io/v1alpha1", "kind": "WasmPlugin", "metadata": metadata}
    return {**body, "spec": {"url": "oci://registry.lab/plugins/mock:1.0.0", **spec}}


def test_controller_follows_the_api_server_and_writes_statuses(server: Server, gateway: Gateway) -> None:
    until("there is a kubeconfig", server.kubeconfig.exists)
    client = Client(server.kubeconfig)
    client.apply(resources.path("manifests/crd-wasmplugin.yaml"))
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "higress-system"}})
    assert gateway.ask(LISTENER).resources

    first = client.apply(plugin(defaultConfig={"a": 1}))[0].object
    listener = gateway.next()
    assert (listener.type_url, b"higress-system.mock" in listener.resources[0].value) == (LISTENER, True)
    version = gateway.ask(EXTENSION, "higress-system.mock")
    gateway.answer(version, "higress-system.mock")
    ready = client.wait_for_ready(first, timeout=PATIENCE)
    assert ready_condition(ready, 1) is not None

    def reason() -> str | None:
        generation = client.get("WasmPlugin", "mock", namespace="higress-system")["metadata"]["generation"]
        condition = ready_condition(client.get("WasmPlugin", "mock", namespace="higress-system"), generation)
        return condition["reason"] if condition else None

    client.apply(plugin(defaultConfig={"a": 2}))
    second = gateway.next()
    assert second.version_info != version.version_info
    gateway.answer(second, "higress-system.mock", error="PullFailed: no such tag")
    until("the refusal is told", lambda: reason() == "PullFailed")

    server.kill()
    gateway.answer(second, "higress-system.mock")  # healed while nobody can be told
    server.start()
    until("it is told afterwards", lambda: server.process.poll() is None and _try(reason) == "Loaded")

    client.apply(plugin(defaultConfig={"a": 3}))
    assert gateway.next().type_url == EXTENSION
    client.delete_object("WasmPlugin", "mock", namespace="higress-system")
    assert b"higress-system.mock" not in gateway.next().resources[0].value


def _try(attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except Exception:
        return None
