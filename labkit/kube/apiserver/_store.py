"""Objects and the log of their changes: in memory to be read, in sqlite to survive kill -9.

Every write gets the next number of one counter, the resourceVersion, and is committed before it is acknowledged or
seen by a watch. Objects handed out are shared and must not be changed; callers copy what they edit.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labkit.kube.apiserver._status import expired

Object = dict[str, Any]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
  version INTEGER PRIMARY KEY, type TEXT NOT NULL, resource TEXT NOT NULL, body TEXT NOT NULL, previous TEXT);
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the object as it is now (for DELETED: as it was, with the deletion's version) and was before."""

    version: int
    type: ChangeType
    resource: str
    body: Object
    previous: Object | None


class Store:
    """All objects of all resources, by resource key, namespace and name.

    Args:
        path: The sqlite file; made when missing.
        history: How many changes a watch can look back; older ones answer 410 Gone.
        on_commit: Called with every change once it is committed, before any watch is told.
    """

    def __init__(
        self, path: Path, *, history: int = 5000, on_commit: Callable[[Change], None] = lambda change: None
    ) -> None:
        self._history = history
        self._on_commit = on_commit
        self._db = sqlite3.connect(path, isolation_level=None)
        # WAL with NORMAL keeps every commit across a killed process; only a power cut could lose the last ones.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        self._objects: dict[str, dict[tuple[str, str], Object]] = {}
        self._changes: list[Change] = []
        self._waiting: set[asyncio.Event] = set()
        self._batch: list[Change] | None = None
        self._load()

    def _load(self) -> None:
        for resource, namespace, name, body in self._db.execute("SELECT resource, namespace, name, body FROM objects"):
            self._objects.setdefault(resource, {})[namespace, name] = json.loads(body)
        rows = self._db.execute("SELECT version, type, resource, body, previous FROM changes ORDER BY version")
        for version, kind, resource, body, previous in rows:
            before = None if previous is None else json.loads(previous)
            self._changes.append(Change(version, kind, resource, json.loads(body), before))
        self._version = self._changes[-1].version if self._changes else 0
        # What happened before the oldest kept change is known only through the objects themselves.
        self._compacted = self._changes[0].version - 1 if self._changes else 0

    def close(self) -> None:
        """Close the database; nothing can be written any more."""
        self._db.close()

    @property
    def version(self) -> int:
        """The resourceVersion of the latest write."""
        return self._version

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self._objects.get(resource, {}).get((namespace, name))

    def objects(self, resource: str, namespace: str | None = None) -> list[Object]:
        """All objects of a resource, in one namespace or all, ordered by namespace and name."""
        held = self._objects.get(resource, {})
        return [held[key] for key in sorted(held) if namespace is None or key[0] == namespace]

    def objects_at(self, resource: str, namespace: str | None, version: int) -> list[Object]:
        """The same list as it was at an earlier version: today's, with the changes since undone."""
        held = dict(self._objects.get(resource, {}))
        for change in reversed(self.changes_after(version)):
            if change.resource == resource:
                key = _key(change.body)
                held.pop(key, None)
                if change.previous is not None:
                    held[key] = change.previous
        return [held[key] for key in sorted(held) if namespace is None or key[0] == namespace]

    def in_namespace(self, namespace: str) -> list[tuple[str, Object]]:
        """Everything a namespace holds, as (resource, object)."""
        return [
            (resource, body)
            for resource, held in self._objects.items()
            for key, body in held.items()
            if key[0] == namespace
        ]

    def put(self, resource: str, body: Object) -> Object:
        """Create or replace an object; returns it with its new resourceVersion."""
        key = _key(body)
        previous = self._objects.get(resource, {}).get(key)
        version = self._version + 1
        stored = {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
        text = json.dumps(stored, separators=(",", ":"))
        with self.batch() as changes:
            self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (resource, *key, text))
            self._record(Change(version, "MODIFIED" if previous else "ADDED", resource, stored, previous), text)
            self._objects.setdefault(resource, {})[key] = stored
            changes.append(self._changes[-1])
        return stored

    def delete(self, resource: str, namespace: str, name: str) -> Object:
        """Remove an object that is there; returns its last state with the deletion's resourceVersion."""
        previous = self._objects[resource][namespace, name]
        version = self._version + 1
        stored = {**previous, "metadata": {**previous["metadata"], "resourceVersion": str(version)}}
        with self.batch() as changes:
            self._db.execute(
                "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", (resource, namespace, name)
            )
            text = json.dumps(stored, separators=(",", ":"))
            self._record(Change(version, "DELETED", resource, stored, previous), text)
            del self._objects[resource][namespace, name]
            changes.append(self._changes[-1])
        return stored

    @contextmanager
    def batch(self) -> Iterator[list[Change]]:
        """Several writes in one commit; the watches are told after it. Nests."""
        if self._batch is not None:
            yield self._batch
            return
        self._batch = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._batch
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            self._undo(self._batch)
            raise
        finally:
            written, self._batch = self._batch, None
        if written:
            for change in written:
                self._on_commit(change)
            self._compact()
            self.wake()

    def _undo(self, changes: list[Change]) -> None:
        for change in reversed(changes):
            held = self._objects.setdefault(change.resource, {})
            held.pop(_key(change.body), None)
            if change.previous is not None:
                held[_key(change.body)] = change.previous
            self._changes.pop()
        self._version -= len(changes)

    def _record(self, change: Change, text: str) -> None:
        previous = None if change.previous is None else json.dumps(change.previous, separators=(",", ":"))
        self._db.execute(
            "INSERT INTO changes VALUES (?, ?, ?, ?, ?)", (change.version, change.type, change.resource, text, previous)
        )
        self._changes.append(change)
        self._version = change.version

    def _compact(self) -> None:
        """Forget the oldest changes once there are half as many again as a watch may look back."""
        if len(self._changes) < self._history + self._history // 2:
            return
        del self._changes[: len(self._changes) - self._history]
        self._compacted = self._changes[0].version - 1
        self._db.execute("DELETE FROM changes WHERE version <= ?", (self._compacted,))

    def changes_after(self, version: int) -> list[Change]:
        """Every change later than `version`, oldest first; 410 when some of them are forgotten."""
        if version < self._compacted:
            raise expired(f"too old resource version: {version} ({self._compacted})")
        start = bisect.bisect_right(self._changes, version, key=lambda change: change.version)
        return self._changes[start:]

    def wake(self) -> None:
        """Wake every subscriber, after a commit or because the server stops."""
        for event in self._waiting:
            event.set()

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """An event that is set after every commit, for as long as the block runs."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)


def _key(body: Object) -> tuple[str, str]:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
