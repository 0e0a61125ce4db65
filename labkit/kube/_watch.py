"""Watching a kind as informers do: list, then follow the changes, through disconnects and restarts of the server."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from labkit.kube._cluster import Cluster, Kind
from labkit.kube._errors import ApiServerAway, KubeError

Object = dict[str, Any]

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 300
_LONGEST_PAUSE = 5.0
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """Everything there is now: at the start, and again after a gap in the changes."""

    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One object came, changed or went."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


class _Gone(Exception):
    """The server no longer knows the version to resume from."""


class Watch:
    """An iterator of `Listed` and `Changed` that ends when `stop` is called, from any thread.

    It outlives the API server: while that is away it tries again, at most every 5 seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        *,
        namespace: str | None,
        label_selector: str | None,
        field_selector: str | None,
    ) -> None:
        self._cluster = cluster
        self._kind_name = kind
        self._namespace = namespace
        self._selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._response: Any = None

    def __iter__(self) -> Iterator[Listed | Changed]:
        pause = 0.1
        kind: Kind | None = None
        version = ""
        while not self._stopped.is_set():
            try:
                if kind is None:
                    kind = self._cluster.kind_named(self._kind_name)
                if not version:
                    objects, version = self._list(kind)
                    yield Listed(objects)
                for event in self._follow(kind, version):
                    pause = 0.1
                    if isinstance(event, Changed):
                        yield event
                        version = event.object["metadata"]["resourceVersion"]
                    else:
                        version = event
            except _Gone:
                version = ""
            except KubeError as error:
                if self._stopped.is_set():
                    return
                _log.warning("watching %s: %s", self._kind_name, error)
                if not isinstance(error, ApiServerAway):
                    kind, version = None, ""
                # Some jitter, so that the watches of a restarted server do not all come at once.
                self._stopped.wait(pause * random.uniform(0.7, 1.3))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """End the iteration, also while it waits for the server."""
        self._stopped.set()
        with self._lock:
            if self._response is not None:
                _shut(self._response)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _list(self, kind: Kind) -> tuple[tuple[Object, ...], str]:
        found: list[Object] = []
        token: str | None = None
        while True:
            page = self._cluster.request(
                "GET",
                kind.path(self._namespace),
                what=kind.plural,
                query={**self._selectors, "limit": _PAGE, "continue": token},
            )
            found += [complete(kind, item) for item in page.get("items") or ()]
            token = page["metadata"].get("continue")
            if not token:
                return tuple(found), str(page["metadata"]["resourceVersion"])

    def _follow(self, kind: Kind, version: str) -> Iterator[Changed | str]:
        """The changes after a version; a plain string is a bookmark, the version reached without a change."""
        query = {
            **self._selectors,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _WATCH_SECONDS,
        }
        try:
            response = self._cluster.open(
                "GET", kind.path(self._namespace), what=kind.plural, query=query, read_seconds=_WATCH_SECONDS + 30
            )
        except KubeError as error:
            if "too old" in error.message or " 410" in error.message:
                raise _Gone from None
            raise
        with self._lock:
            self._response = response
        try:
            if self._stopped.is_set():
                return
            for line in _lines(response):
                event = json.loads(line)
                body = event["object"]
                if event["type"] == "ERROR":
                    if body.get("code") == 410:
                        raise _Gone
                    raise KubeError(f"watching {kind.plural}: {body.get('message')}")
                if event["type"] == "BOOKMARK":
                    yield body["metadata"]["resourceVersion"]
                else:
                    yield Changed(event["type"], body)
        except (OSError, ValueError) as error:
            raise ApiServerAway(f"the watch of {kind.plural} broke off: {error}") from error
        finally:
            with self._lock:
                self._response = None
            response.close()


def _lines(response: Any) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(65536, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line for line in lines if line.strip())
    except (HTTPError, AttributeError) as error:
        # urllib3 raises AttributeError when another thread shut the connection down under it.
        raise OSError(str(error)) from error


def _shut(response: Any) -> None:
    """Make a read that blocks in another thread return."""
    try:
        response.shutdown()
    except (OSError, ValueError, RuntimeError, AttributeError):
        response.close()


def complete(kind: Kind, item: Object) -> Object:
    """An item of a list with the kind and apiVersion that lists leave out."""
    api_version = f"{kind.group}/{kind.version}" if kind.group else kind.version
    return {"apiVersion": api_version, "kind": kind.kind, **item}
