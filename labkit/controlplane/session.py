"""One client's stream of aggregated discovery (ADS, state of the world), as a state machine without I/O.

Feed it requests and snapshots; `pending` says what to send now. The rules it keeps:

- Only what changed is sent. Clusters and listeners go as whole sets, because leaving one out means deleting it;
  routes and endpoints go one by one; each plugin gets a response of its own, so that an answer is about it alone.
- Make before break: clusters and their endpoints go first, listeners and routes only when those have been
  answered, and a cluster that routes still use leaves last.
- A refused response is not sent again until its content changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from labkit.controlplane.snapshot import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    TYPES,
    Resource,
    Snapshot,
    version_of,
)

_WHOLE_SETS = (CLUSTER, LISTENER)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client said about a response.

    Attributes:
        type_url: The response's type.
        versions: The versions of the resources it carried, by name.
        error: Why the client refused it; None when it took it.
    """

    type_url: str
    versions: Mapping[str, str]
    error: str | None = None


@dataclass(slots=True)
class _Watch:
    """What one client asked for and was sent of one type."""

    names: frozenset[str] = frozenset()
    resume: str = ""
    sent: dict[str, Resource] = field(default_factory=dict)
    ever_sent: bool = False
    nonces: dict[str, dict[str, str]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    refused: bool = False

    def remember(self, nonce: str, resources: Iterable[Resource]) -> None:
        """Note what a response carries; answers to responses it supersedes no longer count."""
        versions = {resource.name: resource.version for resource in resources}
        for old, carried in list(self.nonces.items()):
            if carried.keys() <= versions.keys():
                del self.nonces[old]
                self.unanswered.discard(old)
        self.nonces[nonce] = versions
        self.unanswered.add(nonce)
        self.ever_sent = True


class Session:
    """The state of one stream."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.snapshot = snapshot
        self._watches: dict[str, _Watch] = {}
        self._nonces = count(1)

    def receive(self, request: DiscoveryRequest) -> Answer | None:
        """Take a request: a subscription, an answer, or both; return the answer."""
        if request.type_url not in TYPES:
            return None
        watch = self._watches.get(request.type_url)
        if watch is None:
            watch = self._watches[request.type_url] = _Watch(resume=request.version_info)
        watch.names = frozenset(request.resource_names) - {"*"}
        if request.type_url not in _WHOLE_SETS:
            watch.sent = {name: sent for name, sent in watch.sent.items() if name in watch.names}
        carried = watch.nonces.get(request.response_nonce)
        if carried is None:
            return None
        watch.unanswered.discard(request.response_nonce)
        if request.type_url != EXTENSION:
            # Envoy takes responses in order, and answers two that come close together once, naming the later one.
            # Plugins are answered by the agent, which gives each response an answer of its own.
            answered = int(request.response_nonce)
            watch.unanswered = {nonce for nonce in watch.unanswered if int(nonce) > answered}
        watch.refused = request.HasField("error_detail")
        error = (request.error_detail.message or "refused without a reason") if watch.refused else None
        return Answer(request.type_url, carried, error)

    def pending(self) -> list[DiscoveryResponse]:
        """What to send now; calling it again before anything changed gives nothing."""
        if self.snapshot is None:
            return []
        for type_url, watch in self._watches.items():
            self._resume(type_url, watch)
        responses = [*self._whole_set(CLUSTER, self._clusters()), *self._changed(ENDPOINTS)]
        if self._clusters_ready():
            responses += self._whole_set(LISTENER, self.snapshot.resources(LISTENER))
            responses += self._changed(ROUTES)
        return responses + self._changed(EXTENSION)

    def _resume(self, type_url: str, watch: _Watch) -> None:
        """A client that comes back with the current version is not sent it again."""
        version, watch.resume = watch.resume, ""
        if not version or watch.ever_sent or type_url == EXTENSION:
            return
        current = self._current(type_url, watch)
        if version == version_of(current.values()):
            watch.sent = dict(current)
            watch.ever_sent = True

    def _current(self, type_url: str, watch: _Watch) -> Mapping[str, Resource]:
        assert self.snapshot is not None
        resources = self.snapshot.resources(type_url)
        if type_url in _WHOLE_SETS:
            return resources
        return {name: resources[name] for name in watch.names if name in resources}

    def _clusters(self) -> Mapping[str, Resource]:
        """The clusters to have: the snapshot's, and the old ones as long as old routes may use them."""
        assert self.snapshot is not None
        wanted = self.snapshot.resources(CLUSTER)
        watch = self._watches.get(CLUSTER)
        if watch is None or all(self._settled(type_url) for type_url in (LISTENER, ROUTES)):
            return wanted
        return {**watch.sent, **wanted}

    def _settled(self, type_url: str) -> bool:
        watch = self._watches.get(type_url)
        if watch is None:
            return True
        current = self._current(type_url, watch)
        return not watch.unanswered and all(
            name in watch.sent and watch.sent[name].version == resource.version for name, resource in current.items()
        )

    def _clusters_ready(self) -> bool:
        """Whether the client has had its say about all clusters and endpoints that routes may need."""
        assert self.snapshot is not None
        clusters = self._watches.get(CLUSTER)
        if clusters is None or (clusters.refused and not clusters.unanswered):
            return True
        if clusters.unanswered:
            return False
        needed = self.snapshot.resources(ENDPOINTS).keys() & clusters.sent.keys()
        endpoints = self._watches.get(ENDPOINTS)
        if endpoints is None:
            return not needed
        return not endpoints.unanswered and needed <= endpoints.names

    def _whole_set(self, type_url: str, wanted: Mapping[str, Resource]) -> list[DiscoveryResponse]:
        watch = self._watches.get(type_url)
        if watch is None:
            return []
        versions = {name: resource.version for name, resource in wanted.items()}
        before = {name: resource.version for name, resource in watch.sent.items()}
        if watch.ever_sent and versions == before:
            return []
        if type_url == CLUSTER and (endpoints := self._watches.get(ENDPOINTS)):
            # A cluster that is new or changed stays in warming until it is sent its endpoints (again).
            for name in versions.keys() - {n for n, version in before.items() if versions.get(n) == version}:
                endpoints.sent.pop(name, None)
        watch.sent = dict(wanted)
        return [self._response(type_url, watch, version_of(wanted.values()), wanted.values())]

    def _changed(self, type_url: str) -> list[DiscoveryResponse]:
        watch = self._watches.get(type_url)
        if watch is None:
            return []
        current = self._current(type_url, watch)
        changed = [
            resource
            for name, resource in sorted(current.items())
            if name not in watch.sent or watch.sent[name].version != resource.version
        ]
        watch.sent.update({resource.name: resource for resource in changed})
        if not changed:
            return []
        if type_url == EXTENSION:
            return [self._response(type_url, watch, resource.version, [resource]) for resource in changed]
        return [self._response(type_url, watch, version_of(current.values()), changed)]

    def _response(self, type_url: str, watch: _Watch, version: str, resources: Iterable[Resource]) -> DiscoveryResponse:
        nonce = str(next(self._nonces))
        carried = list(resources)
        watch.remember(nonce, carried)
        return DiscoveryResponse(
            type_url=type_url,
            version_info=version,
            nonce=nonce,
            resources=[resource.body for resource in carried],
        )
