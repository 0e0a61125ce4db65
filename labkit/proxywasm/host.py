"""What plugins share: clock and timers, clusters, shared data and queues, metrics, VMs."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.proxywasm.abi import LogLevel, Status
from labkit.proxywasm.clock import Clock, SystemClock
from labkit.proxywasm.contexts import LogLine, PluginContext
from labkit.proxywasm.shared import Metrics, SharedData, SharedQueues

if TYPE_CHECKING:
    from labkit.proxywasm.vm import Vm


ForeignFunction = Callable[["Vm", bytes], "bytes | Status"]


class Host:
    """The process that plugins run in, as one Envoy worker is.

    Plugins loaded into the same host share data and queues by `vm_id`, and the VM itself when `vm_id`, `vm_config` and
    module are the same. A plugin loaded without a host gets one of its own.

    Args:
        clock: Where time comes from; the machine's clock by default.
        log_level: Lines below it are dropped, as Envoy's `--log-level` does.
        strict: Raise what is otherwise recorded as a problem: bad pointers, malformed maps, unknown clusters.
        seed: Makes `random_get` repeatable.
        allow_on_headers_stop_iteration: Envoy's option of that name: a plugin's Pause in a headers phase lets the body
            arrive at the plugin meanwhile.
        on_log: Called with every line as it is logged.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        log_level: LogLevel = LogLevel.INFO,
        strict: bool = False,
        seed: int | None = None,
        allow_on_headers_stop_iteration: bool = False,
        on_log: Callable[[LogLine], None] | None = None,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.log_level = log_level
        self.strict = strict
        self.random = random.SystemRandom() if seed is None else random.Random(seed)
        self.allow_on_headers_stop_iteration = allow_on_headers_stop_iteration
        self.on_log = on_log
        self.foreign_functions: dict[str, ForeignFunction] = {}
        self.shared_data = SharedData()
        self.queues = SharedQueues()
        self.metrics = Metrics()
        self.vms: dict[tuple[str, bytes, str], Vm] = {}
        self._timers: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = itertools.count()

    # -- timers

    def call_later(self, seconds: float, action: Callable[[], object]) -> None:
        """Run `action` once the clock has moved on by `seconds`."""
        due = self.clock.monotonic_ns() + int(seconds * 1e9)
        heapq.heappush(self._timers, (due, next(self._sequence), action))

    def call_soon(self, action: Callable[[], object]) -> None:
        """Run `action` once the call under way into any plugin is over."""
        self.call_later(0, action)

    def set_tick_period(self, plugin: PluginContext, period: int) -> None:
        """Call `proxy_on_tick` every `period` milliseconds; 0 stops."""
        running = plugin.tick_period > 0
        plugin.tick_period = period
        if period and not running:
            self._schedule_tick(plugin)

    def _schedule_tick(self, plugin: PluginContext) -> None:
        def tick() -> None:
            if plugin.tick_period and plugin.vm.failure is None:
                plugin.enter("proxy_on_tick")
                if plugin.tick_period:
                    self._schedule_tick(plugin)

        self.call_later(plugin.tick_period / 1e3, tick)

    def run_due(self) -> int:
        """Run the timers that are due now; how many there were."""
        count = 0
        while self._timers and self._timers[0][0] <= self.clock.monotonic_ns():
            _, _, action = heapq.heappop(self._timers)
            action()
            count += 1
        return count

    def advance(self, seconds: float) -> None:
        """Let time pass and run what falls due, in order; with the machine's clock this waits."""
        end = self.clock.monotonic_ns() + int(seconds * 1e9)
        while self._timers and self._timers[0][0] <= end:
            self.clock.wait_until(self._timers[0][0])
            self.run_due()
        self.clock.wait_until(end)
