"""State that outlives streams: shared data, shared queues, metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labkit.proxywasm.enums import MetricType, Status

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import Context


class SharedData:
    """Values by `vm_id` and key, each with a number that changes with every write (compare-and-swap)."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        self._last_cas = 0

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """The value and its number."""
        return self._values.get((vm_id, key))

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int) -> Status:
        """Write, unless the value there has another number than `cas`; 0 writes in any case."""
        old = self._values.get((vm_id, key))
        if old is not None and cas and cas != old[1]:
            return Status.CAS_MISMATCH
        self._last_cas = self._last_cas % 0xFFFFFFFF + 1
        self._values[vm_id, key] = (value, self._last_cas)
        return Status.OK

    def items(self) -> Iterator[tuple[tuple[str, bytes], bytes]]:
        """((vm_id, key), value) of everything."""
        return ((key, value) for key, (value, _) in self._values.items())


@dataclass
class _Queue:
    vm_id: str
    name: bytes
    owner: Context
    entries: deque[bytes] = field(default_factory=deque)


class SharedQueues:
    """Queues by `vm_id` and name; the context that registered one last is told when something arrives."""

    def __init__(self) -> None:
        self._queues: list[_Queue] = []

    def register(self, vm_id: str, name: bytes, owner: Context) -> int:
        """The queue's token; makes the queue when there is none. Entries stay when another owner registers."""
        token = self.resolve(vm_id, name)
        if token:
            self._queues[token - 1].owner = owner
            return token
        self._queues.append(_Queue(vm_id, name, owner))
        return len(self._queues)

    def resolve(self, vm_id: str, name: bytes) -> int:
        """The token of an existing queue, or 0."""
        for index, queue in enumerate(self._queues):
            if queue.vm_id == vm_id and queue.name == name:
                return index + 1
        return 0

    def enqueue(self, token: int, data: bytes) -> Context | None:
        """Append; the context to tell, or None when there is no such queue."""
        if not 0 < token <= len(self._queues):
            return None
        queue = self._queues[token - 1]
        queue.entries.append(data)
        return queue.owner

    def dequeue(self, token: int) -> bytes | Status:
        """The oldest entry."""
        if not 0 < token <= len(self._queues):
            return Status.NOT_FOUND
        entries = self._queues[token - 1].entries
        return entries.popleft() if entries else Status.EMPTY


@dataclass
class Metric:
    """One metric.

    Attributes:
        value: Of a counter or gauge.
        samples: Of a histogram.
    """

    kind: MetricType
    name: str
    value: int = 0
    samples: list[int] = field(default_factory=list)


class Metrics:
    """Metrics by kind and name, shared by all plugins of a host; every definition gets an id of its own."""

    def __init__(self) -> None:
        self._metrics: dict[tuple[MetricType, str], Metric] = {}
        self._by_id: dict[int, Metric] = {}
        self._next = {kind: int(kind) for kind in MetricType}

    def define(self, kind: MetricType, name: str) -> int:
        """An id whose two lowest bits are the kind."""
        metric = self._metrics.setdefault((kind, name), Metric(kind, name))
        # As in Envoy, ids of one kind are 4 apart, and the first one is not the kind itself.
        self._next[kind] += 4
        self._by_id[self._next[kind]] = metric
        return self._next[kind]

    def find(self, metric_id: int) -> Metric | None:
        """The metric with this id."""
        return self._by_id.get(metric_id)

    def __getitem__(self, name: str) -> int | list[int]:
        """A counter's or gauge's value, or a histogram's samples."""
        for metric in self._metrics.values():
            if metric.name == name:
                return metric.samples if metric.kind is MetricType.HISTOGRAM else metric.value
        raise KeyError(name)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._metrics.values())

    def __len__(self) -> int:
        return len(self._metrics)
