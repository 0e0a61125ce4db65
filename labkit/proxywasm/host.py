"""What plugins share: clock and timers, clusters, shared data and queues, metrics, VMs."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import queue
import random
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.proxywasm import foreign
from labkit.proxywasm.clock import Clock, SystemClock
from labkit.proxywasm.contexts import LogLine, PluginContext
from labkit.proxywasm.enums import LogLevel, Status
from labkit.proxywasm.handlers import Handler
from labkit.proxywasm.properties import Flavour
from labkit.proxywasm.shared import Metrics, SharedData, SharedQueues

if TYPE_CHECKING:
    from labkit.proxywasm.vm import Vm


ForeignFunction = Callable[["Vm", bytes], "bytes | Status"]


class Host:
    """The process that plugins run in, as one Envoy worker is.

    Plugins loaded into the same host share data and queues by `vm_id`, and the VM itself when `vm_id`, `vm_config` and
    module are the same. A plugin loaded without a host gets one of its own.

    Args:
        clusters: Who answers call-outs, by the cluster's name (`labkit.proxywasm.callouts`).
        clock: Where time comes from; the machine's clock by default.
        log_level: Lines below it are dropped, as Envoy's `--log-level` does.
        strict: Raise what is otherwise recorded as a problem: bad pointers, malformed maps, unknown clusters.
        seed: Makes `random_get` repeatable.
        flavour: Whose answers to give where Higress' Envoy differs; by default Higress' to modules of its ABI.
        allow_on_headers_stop_iteration: Envoy's option of that name: a plugin's Pause in a headers phase lets the body
            arrive at the plugin meanwhile.
        on_log: Called with every line as it is logged.
        patience: Seconds that a fake clock stands still for a handler that is a coroutine.
        fast: Answer hot host calls inside Wasm; otherwise all of them run in Python, which is slower and the same.
    """

    def __init__(
        self,
        *,
        clusters: Mapping[str, Handler] | None = None,
        clock: Clock | None = None,
        log_level: LogLevel = LogLevel.INFO,
        strict: bool = False,
        seed: int | None = None,
        flavour: Flavour | None = None,
        allow_on_headers_stop_iteration: bool = False,
        on_log: Callable[[LogLine], None] | None = None,
        fast: bool = True,
        patience: float = 5.0,
    ) -> None:
        self.clusters: dict[str, Handler] = dict(clusters or {})
        self.clock: Clock = clock or SystemClock()
        self.log_level = log_level
        self.strict = strict
        self.random = random.SystemRandom() if seed is None else random.Random(seed)
        self.flavour = flavour
        self.allow_on_headers_stop_iteration = allow_on_headers_stop_iteration
        self.on_log = on_log
        self.fast = fast
        self.patience = patience
        self.foreign_functions: dict[str, ForeignFunction] = dict(foreign.FUNCTIONS)
        self.shared_data = SharedData()
        self.queues = SharedQueues()
        self.metrics = Metrics()
        self.vms: dict[tuple[str, bytes, str], Vm] = {}
        self._timers: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = itertools.count()
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._in_flight = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.lock = threading.RLock()

    def call_later(self, seconds: float, action: Callable[[], object]) -> None:
        """Run `action` once the clock has moved on by `seconds`."""
        due = self.clock.monotonic_ns() + int(seconds * 1e9)
        heapq.heappush(self._timers, (due, next(self._sequence), action))

    def call_soon(self, action: Callable[[], object]) -> None:
        """Run `action` once the call under way into any plugin is over."""
        self.call_later(0, action)

    def set_tick_period(self, plugin: PluginContext, period: int) -> None:
        """Call `proxy_on_tick` every `period` milliseconds from now on; 0 stops."""
        plugin.tick_period = period
        plugin.ticks_set += 1
        if period:
            self._schedule_tick(plugin)

    def _schedule_tick(self, plugin: PluginContext) -> None:
        current = plugin.ticks_set

        def tick() -> None:
            # Whoever sets the period anew, even from the tick itself, begins anew.
            if plugin.ticks_set == current and plugin.tick_period and plugin.vm.failure is None:
                plugin.enter("proxy_on_tick")
                if plugin.ticks_set == current:
                    self._schedule_tick(plugin)

        self.call_later(plugin.tick_period / 1e3, tick)

    def run_due(self) -> int:
        """Run the timers that are due now, and what arrived from elsewhere; how many there were."""
        count = 0
        while True:
            while not self._inbox.empty():
                self._inbox.get()()
                self._in_flight -= 1
                count += 1
            if not self._timers or self._timers[0][0] > self.clock.monotonic_ns():
                return count
            _, _, action = heapq.heappop(self._timers)
            action()
            count += 1

    def advance(self, seconds: float) -> None:
        """Let time pass and run what falls due, in order; with the machine's clock this waits."""
        end = self.clock.monotonic_ns() + int(seconds * 1e9)
        self.run_due()
        while self._timers and self._timers[0][0] <= end:
            self.clock.wait_until(self._timers[0][0])
            self.run_due()
        self.clock.wait_until(end)
        self.run_due()

    def run_async(self, awaitable: Awaitable[Any], done: Callable[[Any], object]) -> None:
        """Run a coroutine in the host's own event loop; `done` gets its result, or its exception, in this thread."""

        async def run() -> None:
            try:
                result = await awaitable
            except Exception as error:
                result = error
            self._inbox.put(lambda: done(result))

        self._in_flight += 1
        asyncio.run_coroutine_threadsafe(run(), self.event_loop())

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The host's own event loop, running in a thread; made when first asked for."""
        if self._loop is None:
            self._loop = loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(loop,), name="labkit-callouts", daemon=True).start()
            weakref.finalize(self, _stop, loop).atexit = False
        return self._loop

    def wait(self, end: int) -> bool:
        """Wait for what happens next, at most until `end`; False when nothing more can happen before."""
        if self.clock.monotonic_ns() >= end or not (self._timers or self._in_flight):
            return False
        due = min(self._timers[0][0], end) if self._timers else end
        if self._in_flight:
            self._wait_for_inbox(due)
        else:
            self.clock.wait_until(due)
        return True

    def _wait_for_inbox(self, due: int) -> None:
        """Wait for an answer from the event loop, at most until `due`.

        A fake clock stands still meanwhile, and jumps when a coroutine takes too long for a test.
        """
        real = isinstance(self.clock, SystemClock)
        timeout = max(0.0, (due - self.clock.monotonic_ns()) / 1e9) if real else self.patience
        try:
            action = self._inbox.get(timeout=timeout)
        except queue.Empty:
            self.clock.wait_until(due)
            return
        self._in_flight -= 1
        action()

    def close(self) -> None:
        """Stop the event loop of coroutine handlers, if there is one."""
        loop, self._loop = self._loop, None
        if loop is not None:
            _stop(loop)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    # A loop that is closed already has nothing to stop.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, which happens at the latest when its host is gone."""
    try:
        loop.run_forever()
    finally:
        loop.close()


def run_until(hosts: Sequence[Host], done: Callable[[], bool], timeout: float) -> bool:
    """Run timers and call-outs until `done()`; False when nothing more can happen, or the time is over."""
    ends = [host.clock.monotonic_ns() + int(timeout * 1e9) for host in hosts]
    while True:
        for host in hosts:
            host.run_due()
        if done():
            return True
        if not any(host.wait(end) for host, end in zip(hosts, ends, strict=True)):
            return False
