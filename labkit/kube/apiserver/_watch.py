"""Watches: the changes of one resource as a stream of events, from any version that is still in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from labkit.kube.apiserver._catalog import Resource
from labkit.kube.apiserver._selectors import Predicate
from labkit.kube.apiserver._status import ApiError
from labkit.kube.apiserver._store import Change, Object, Store

Event = tuple[str, Object]

_BOOKMARK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What to watch.

    Attributes:
        version: Start after this resourceVersion; None starts with what there is now.
        initial_events_end: Whether a bookmark must mark the end of what there was (a "watch list").
        bookmarks: Whether the client takes bookmarks.
    """

    resource: Resource
    namespace: str | None
    wanted: Predicate | None
    version: int | None
    initial_events_end: bool
    bookmarks: bool
    seconds: float


async def watch(store: Store, request: WatchRequest, stopping: asyncio.Event) -> AsyncIterator[Event]:
    """Yield (type, object) until the time is over, the server stops, or the log no longer reaches back."""
    resource = request.resource
    loop = asyncio.get_running_loop()
    end = loop.time() + request.seconds
    with store.subscribe() as changed:
        version = request.version
        if version is None:
            version = store.version
            for body in store.objects(resource.key, request.namespace):
                if request.wanted is None or request.wanted(body):
                    yield "ADDED", body
            if request.initial_events_end:
                yield "BOOKMARK", bookmark(resource, version, initial_events_end=True)
        while not stopping.is_set():
            changed.clear()
            try:
                changes = store.changes_after(version)
            except ApiError as error:
                yield "ERROR", error.status()
                return
            for change in changes:
                version = change.version
                if change.resource == resource.key and (event := _event(change, request)):
                    yield event
            if changed.is_set() or stopping.is_set():
                continue
            left = end - loop.time()
            if left <= 0:
                break
            try:
                await asyncio.wait_for(changed.wait(), min(left, _BOOKMARK_SECONDS))
            except TimeoutError:
                if request.bookmarks:
                    yield "BOOKMARK", bookmark(resource, version)


def _event(change: Change, request: WatchRequest) -> Event | None:
    """A change as this watch sees it: through a selector, objects come and go as they begin and cease to fit."""
    if request.namespace is not None and change.body["metadata"].get("namespace", "") != request.namespace:
        return None
    if request.wanted is None:
        return change.type, change.body
    fitted = change.previous is not None and request.wanted(change.previous)
    fits = change.type != "DELETED" and request.wanted(change.body)
    if fits:
        return ("MODIFIED" if fitted else "ADDED"), change.body
    return ("DELETED", change.body) if fitted else None


def bookmark(resource: Resource, version: int, *, initial_events_end: bool = False) -> Object:
    """The object of a BOOKMARK event."""
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
