"""The process: data directory, socket, kubeconfig, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import yaml

from labkit.errors import LabkitError
from labkit.events import Journal
from labkit.kube.apiserver._catalog import CRD_KEY, NAMESPACES, Catalog
from labkit.kube.apiserver._http import Api
from labkit.kube.apiserver._kinds import finish
from labkit.kube.apiserver._metadata import stamp_new
from labkit.kube.apiserver._objects import PROTECTED_NAMESPACES
from labkit.kube.apiserver._steps import recorder
from labkit.kube.apiserver._store import Change, Object, Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the server is started with.

    Attributes:
        port: The loopback port to listen on; 0 picks a free one.
        data: The directory that keeps objects and the access token.
        kubeconfig: The file to write once requests are answered.
        journal: Where step 4, a WasmPlugin created or changed, is written; nowhere when left out.
    """

    port: int
    data: Path
    kubeconfig: Path
    journal: Path | None = None


class _Server(uvicorn.Server):
    """uvicorn that ends the watches when it is told to stop; it waits for open answers otherwise."""

    def __init__(self, config: uvicorn.Config, api: Api) -> None:
        super().__init__(config)
        self._api = api

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal, and leave it at that: uvicorn would send it to itself once more at the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._api.stop()
        await super().shutdown(sockets)


def serve(config: ServerConfig) -> None:
    """Run the server until SIGTERM or SIGINT."""
    config.data.mkdir(parents=True, exist_ok=True)
    listening = _listen(config.port)
    on_commit = recorder(Journal(config.journal)) if config.journal else _ignore
    store = Store(config.data / "objects.sqlite", on_commit=on_commit)
    try:
        asyncio.run(_run(config, listening, store))
    finally:
        store.close()


async def _run(config: ServerConfig, listening: socket.socket, store: Store) -> None:
    catalog = Catalog(store.objects(CRD_KEY))
    _make_namespaces(store, catalog)
    token = _token(config.data / "token")
    api = Api(store, catalog, token)
    port = listening.getsockname()[1]
    settings = uvicorn.Config(
        api.app(),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
        server_header=False,
    )
    server = _Server(settings, api)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.002)
    if server.started:
        write_kubeconfig(config.kubeconfig, port, token)
        _log.info("serving on 127.0.0.1:%d, kubeconfig %s", port, config.kubeconfig)
        # The kubernetes package takes half a second to import: done now, the first write need not wait for it.
        threading.Thread(target=_import_models, daemon=True).start()
    await serving


def _ignore(change: Change) -> None:
    pass


def _import_models() -> None:
    from labkit.kube.apiserver._models import metadata_schema

    metadata_schema()


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, each answer waits 40 ms for an ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        raise LabkitError(
            f"port {port} on 127.0.0.1 cannot be used: {error.strerror}", hint="choose another with --port"
        ) from error
    return listening


def _make_namespaces(store: Store, catalog: Catalog) -> None:
    """Make the namespaces that are there from the start; without a schema, whose import would delay it."""
    resource = catalog.by_key(NAMESPACES)
    assert resource is not None
    for name in PROTECTED_NAMESPACES:
        if store.get(NAMESPACES, "", name) is None:
            body: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            stamp_new(body["metadata"], resource)
            finish(NAMESPACES, body, None)
            store.put(NAMESPACES, body)


def _token(path: Path) -> str:
    """The access token: made once, the same after every restart."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        _write_private(path, token + "\n")
        return token


def write_kubeconfig(path: Path, port: int, token: str) -> None:
    """Write a kubeconfig with one context, `labkit`, for its owner's eyes only."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "labkit", "cluster": {"server": f"http://labkit:{token}@127.0.0.1:{port}"}}],
        "users": [{"name": "labkit", "user": {"token": token}}],
        "contexts": [{"name": "labkit", "context": {"cluster": "labkit", "user": "labkit", "namespace": "default"}}],
        "current-context": "labkit",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_private(path, yaml.safe_dump(document, sort_keys=False))


def _write_private(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
