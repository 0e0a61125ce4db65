"""Engines, compiled modules, and the ticker that interrupts plugins which run too long.

An engine is a compiler configuration: modules compiled with one cannot run in another. Two fields of `Limits` are
part of it (stack, and whether fuel is counted), so there is one engine for each combination in use.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import threading
from dataclasses import dataclass
from typing import Final

import wasmtime

from labkit.proxywasm.limits import Limits

TICK: Final = 0.01
"""Seconds between two ticks of an engine's clock; deadlines are exact to this."""

_BACKTRACE: Final = "WASMTIME_BACKTRACE_DETAILS"

_STDERR: Final = 2
"""The file descriptor: `sys.stderr` may have been replaced by something that is no file."""

_IDLE_TICKS: Final = 200
"""Ticks without an armed deadline after which a ticker goes to sleep."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What distinguishes engines; part of the cache's key."""

    stack: int
    fuel: bool

    @classmethod
    def of(cls, limits: Limits) -> EngineKey:
        """The engine that can enforce `limits`."""
        return cls(limits.stack, limits.fuel is not None)

    def __str__(self) -> str:
        return f"stack={self.stack},fuel={self.fuel},epoch,multi-memory,lines,fixed"


class Engine:
    """A wasmtime engine with its ticker."""

    def __init__(self, key: EngineKey) -> None:
        self.key = key
        _claim_fault_handlers()
        config = _config_with_line_numbers()
        config.epoch_interruption = True
        config.consume_fuel = key.fuel
        config.max_wasm_stack = key.stack
        config.wasm_multi_memory = True
        config.wasm_threads = False
        config.wasm_memory64 = False
        # The host keeps views of a plugin's memory.
        config.memory_may_move = False
        self.wasmtime = wasmtime.Engine(config)
        self.ticker = Ticker(self.wasmtime)


def _claim_fault_handlers() -> None:
    """Make Python's fault handler go before wasmtime's, for good.

    A trap in Wasm reaches wasmtime as a signal. Where `faulthandler` is enabled after the first engine was made (a
    notebook's kernel, pytest and `python -X dev` do enable it at some time), its handlers would replace wasmtime's, and
    the next trap would end the process. Once enabled, enabling it again changes no handler.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(file=_STDERR)


def _config_with_line_numbers() -> wasmtime.Config:
    """A configuration whose traps name file and line; the C API offers that by an environment variable only."""
    before = os.environ.get(_BACKTRACE)
    os.environ[_BACKTRACE] = "1"
    try:
        return wasmtime.Config()
    finally:
        if before is None:
            del os.environ[_BACKTRACE]
        else:
            os.environ[_BACKTRACE] = before


class Ticker:
    """One thread that advances an engine's epoch while deadlines are armed.

    `ticks` counts them: a deadline that was set since the last one need not be set again.
    `armed` is the number of calls under way with a deadline. Arming costs an addition; the thread sleeps on an event
    once nothing was armed for a while, and is a daemon, so that it never keeps the process alive.
    """

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.armed = 0
        self.uses = 0
        self.ticks = 0
        self._engine = engine
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.awake = False

    def wake(self) -> None:
        """Make sure that the thread runs; call when `awake` is false and a deadline was armed."""
        self.awake = True
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="labkit-epoch-ticker", daemon=True)
            self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        idle, uses = 0, self.uses
        pause = threading.Event()
        while True:
            pause.wait(TICK)
            self.ticks += 1
            self._engine.increment_epoch()
            idle = 0 if self.armed or uses != self.uses else idle + 1
            uses = self.uses
            if idle > _IDLE_TICKS:
                self._wake.clear()
                self.awake = False
                # Armed between the look at the counter and the line above: stay awake.
                if self.armed or uses != self.uses:
                    self.awake = True
                    continue
                self._wake.wait()
                idle = 0


@functools.lru_cache(maxsize=16)
def engine_for(key: EngineKey) -> Engine:
    """The engine of this configuration; made once in a process, since it holds the compiled code's memory."""
    return Engine(key)
