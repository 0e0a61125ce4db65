"""The controller at work: resources in, snapshots to the gateways, statuses back to the API server.

Everything runs on one event loop; watching and writing statuses, which block, have threads of their own and come
back here through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from labkit.controlplane.ads import AdsServer
from labkit.controlplane.controller import Controller
from labkit.controlplane.session import Answer
from labkit.controlplane.status import Condition, status_of
from labkit.controlplane.wasmplugin import KubeObject

log = logging.getLogger(__name__)

WriteStatus = Callable[[KubeObject, dict[str, Any]], None]
"""Writes a status to the API server; blocks, and raises when it could not."""

_LONGEST_PAUSE = 10.0
# Most changes are in effect sooner than this; then nobody is told that they are pending.
_PENDING_SECONDS = 0.25


class ControlPlane:
    """Joins a `Controller`, the ADS server and the API server.

    Args:
        controller: The pure part.
        write_status: How a status is written.
    """

    def __init__(self, controller: Controller, write_status: WriteStatus) -> None:
        self.server = AdsServer(self._answered)
        self._controller = controller
        self._write_status = write_status
        self._due = False
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, tuple[KubeObject, dict[str, Any]]] = {}
        self._written: dict[str, dict[str, Any]] = {}
        self._pending: dict[str, tuple[int, float]] = {}

    def replace(self, kind: str, objects: Iterable[KubeObject]) -> None:
        """Take a complete listing of a kind."""
        self._controller.replace(kind, objects)
        self._changed()

    def change(self, kind: str, event: str, resource: KubeObject) -> None:
        """Take one watch event."""
        self._controller.change(kind, event, resource)
        self._changed()

    def _changed(self) -> None:
        """Build a snapshot once everything that has already arrived is taken in."""
        if not self._due and self._controller.is_synced:
            self._due = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        self._due = False
        self.server.publish(self._controller.snapshot())
        self._write_statuses()

    def _answered(self, answer: Answer) -> None:
        self._controller.answered(answer)
        self._write_statuses()

    def _write_statuses(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        seen = set()
        for resource, conditions in self._controller.statuses():
            metadata = resource["metadata"]
            uid = str(metadata.get("uid") or f"{metadata.get('namespace')}/{metadata.get('name')}")
            seen.add(uid)
            generation = int(metadata.get("generation") or 0)
            if self._may_settle_soon(uid, generation, conditions[0]):
                continue
            if self._written.get(uid) == resource.get("status"):
                self._written.pop(uid, None)  # the watch has caught up: the object itself says what it has
            current = self._written.get(uid) or resource.get("status")
            status = status_of(current, generation, conditions, now)
            if status is not None:
                self._written[uid] = status
                self._wanted[uid] = (resource, status)
                if uid not in self._writers:
                    self._writers[uid] = asyncio.create_task(self._write(uid))
        for gone in self._written.keys() - seen:
            del self._written[gone]
            self._pending.pop(gone, None)

    def _may_settle_soon(self, uid: str, generation: int, ready: Condition) -> bool:
        """Whether to wait a moment before saying that a generation is pending."""
        if ready.status != "Unknown":
            self._pending.pop(uid, None)
            return False
        loop = asyncio.get_running_loop()
        since = self._pending.get(uid)
        if since is None or since[0] != generation:
            self._pending[uid] = (generation, loop.time())
            loop.call_later(_PENDING_SECONDS, self._write_statuses)
            return True
        return loop.time() - since[1] < _PENDING_SECONDS

    async def _write(self, uid: str) -> None:
        """Write the newest wanted status of one resource, until the API server has it."""
        pause = 0.1
        while uid in self._wanted:
            resource, status = self._wanted.pop(uid)
            try:
                await asyncio.to_thread(self._write_status, resource, status)
                pause = 0.1
            except Exception as error:  # The API server may be away; the status is still owed.
                log.warning("cannot write the status of %s: %s", resource["metadata"].get("name"), error)
                self._wanted.setdefault(uid, (resource, status))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        self._writers.pop(uid, None)
