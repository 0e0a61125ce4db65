from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import resources
from labkit.kube import Client

from .apiserver import ApiServer


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[ApiServer]:
    """An empty API server of one test's own."""
    server = ApiServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows WasmPlugins, shared by a module's tests."""
    running = ApiServer(tmp_path_factory.mktemp("kube"))
    running.start()
    Client(running.kubeconfig).apply(resources.path("manifests/crd-wasmplugin.yaml"))
    yield running
    assert running.stop() == 0
    assert not [line for line in running.log if "Traceback" in line], "".join(running.log)


@pytest.fixture(scope="module")
def client(server: ApiServer) -> Client:
    return Client(server.kubeconfig)


@pytest.fixture
def namespace(request: pytest.FixtureRequest, client: Client) -> Iterator[str]:
    """A namespace of the test's own."""
    name = request.node.name.partition("[")[0].replace("_", "-").lower()[:50].strip("-")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    client.apply(body)
    yield name
    client.delete(body)
