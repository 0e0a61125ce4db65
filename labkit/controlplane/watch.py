"""Following the API server: one thread a kind, which hands everything to the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from labkit.controlplane.controller import KINDS
from labkit.controlplane.service import ControlPlane
from labkit.controlplane.wasmplugin import KubeObject
from labkit.kube import Client, KubeError, Listed, NotFound

log = logging.getLogger(__name__)

_PAUSE = 0.2
_T = TypeVar("_T")


class Watcher:
    """Feeds a `ControlPlane` from an API server that may come, go and come back.

    Args:
        kubeconfig: How to reach it; may be written later than the controller starts.
        namespace: Where plugins and their pull secrets are; secrets elsewhere are not read.
    """

    def __init__(self, kubeconfig: str | os.PathLike[str], namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._client: Client | None = None
        self._stopping = threading.Event()

    def write_status(self, resource: KubeObject, status: dict[str, Any]) -> None:
        """Write the status of an object; one that has gone needs none."""
        assert self._client is not None
        try:
            self._client.update_status(dict(resource), status)
        except NotFound:
            log.info("%s has gone, so its status is not written", resource["metadata"].get("name"))

    def start(self, control_plane: ControlPlane) -> None:
        """Begin to watch; call it on the event loop that the control plane runs on."""
        threading.Thread(
            target=self._run, args=(control_plane, asyncio.get_running_loop()), name="watcher", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop asking; threads that wait for the server end with the process."""
        self._stopping.set()

    def _run(self, control_plane: ControlPlane, loop: asyncio.AbstractEventLoop) -> None:
        client = self._until_it_works("no usable kubeconfig yet", lambda: Client(self._kubeconfig))
        if client is None:
            return
        self._client = client
        log.info("watching %s at %s", ", ".join(KINDS), client.server)
        for kind in KINDS:
            threading.Thread(
                target=self._follow, args=(client, kind, control_plane, loop), name=f"watch-{kind}", daemon=True
            ).start()

    def _follow(self, client: Client, kind: str, control_plane: ControlPlane, loop: asyncio.AbstractEventLoop) -> None:
        namespace = self._namespace if kind == "Secret" else None
        # A watch grows patient with a server that fails; at the start, being quick matters more.
        if self._until_it_works(f"cannot list {kind} yet", lambda: client.list(kind, namespace=namespace)) is None:
            return
        for event in client.watch(kind, namespace=namespace):
            if self._stopping.is_set():
                return
            if isinstance(event, Listed):
                loop.call_soon_threadsafe(control_plane.replace, kind, event.objects)
            else:
                loop.call_soon_threadsafe(control_plane.change, kind, event.type, event.object)

    def _until_it_works(self, problem: str, attempt: Callable[[], _T]) -> _T | None:
        last = ""
        while not self._stopping.is_set():
            try:
                return attempt()
            except KubeError as error:
                if str(error) != last:
                    last = str(error)
                    log.warning("%s: %s", problem, error)
                self._stopping.wait(_PAUSE)
        return None
