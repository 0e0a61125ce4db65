"""One instance of a module: calls into it, its memory, its contexts, and what happens when it fails.

Everything that enters Wasm goes through `Vm.call`, and everything that leaves it goes through the host functions that
`labkit.proxywasm.linking` defines: those two places are all that an observer (trace, debugger) has to watch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import wasmtime

from labkit.proxywasm import abi
from labkit.proxywasm._engine import TICK
from labkit.proxywasm._native import (
    Export,
    MemoryHandle,
    call_unchecked,
    context_address,
    set_epoch_deadline,
    take_error,
)
from labkit.proxywasm.errors import LimitExceeded, PluginError, StackExhausted, StartFailed, Trap
from labkit.proxywasm.limits import Limits
from labkit.proxywasm.memory import Memory, OutOfBounds
from labkit.proxywasm.traps import trap_from

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import Context
    from labkit.proxywasm.host import Host
    from labkit.proxywasm.module import Module

_NEVER = 1 << 62
_WHILE_STARTING = frozenset({"proxy_log", "emscripten_notify_memory_growth"})
_NOT_WHILE_STARTING = frozenset({"fd_read", "fd_seek", "fd_close", "path_open", "proc_exit", "sched_yield"})


class Observer(Protocol):
    """Who watches the calls between host and plugin; None on a `Vm` costs one comparison a call."""

    def callback(self, vm: Vm, function: abi.Function, args: list[int], run: Callable[..., int]) -> int:
        """Called instead of a callback; calls `run(*args)` to run it, and returns the result."""

    def host_call(self, vm: Vm, function: abi.Function, args: list[int], run: Callable[..., int]) -> int:
        """Called instead of a host function; calls `run(*args)` to run it, and returns the result."""


class _StartGuard:
    """While a module starts, it may log, ask for time, environment and random bytes, and little else, as in Envoy."""

    def callback(self, vm: Vm, function: abi.Function, args: list[int], run: Callable[..., int]) -> int:
        return run(*args)

    def host_call(self, vm: Vm, function: abi.Function, args: list[int], run: Callable[..., int]) -> int:
        if function.name in _NOT_WHILE_STARTING or (function.module == "env" and function.name not in _WHILE_STARTING):
            raise StartFailed(
                f"calls {function.name} before it has started, which Envoy refuses",
                module=vm.module.name,
                function=function.name,
            )
        return run(*args)


class Vm:
    """A running module.

    Attributes:
        context: The context whose state host functions act on: the one called, or the effective one.
        contexts: All live contexts by id; 0 is the VM's own.
        failure: Why the VM is unusable; None while it works.
        stop_iteration: Set by a local response: the phase under way will not continue, whatever it returns.
        observer: Watches every call, when set.
        next_context_id: The id that the next context gets, unless a live one has it.
        fast: Answers hot host calls inside Wasm while nobody watches; None when the host wants every call in Python.
    """

    def __init__(
        self,
        module: Module,
        host: Host,
        limits: Limits,
        *,
        vm_id: str = "",
        vm_configuration: bytes = b"",
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        from labkit.proxywasm._fast.path import FastPath
        from labkit.proxywasm.contexts import VmContext
        from labkit.proxywasm.linking import link

        self.module = module
        self.host = host
        self.limits = limits
        self.vm_id: str = vm_id
        self.vm_configuration = vm_configuration
        self.environment = dict(environment or {})
        self.arguments = tuple(arguments)
        self.failure: Trap | None = None
        self.stop_iteration = False
        self.observer: Observer | None = None
        self.pending: BaseException | None = None
        self.higress = host.flavour == "higress" or (host.flavour is None and module.version == abi.V0_2_100)
        self.lock = threading.RLock()
        self.contexts: dict[int, Context] = {}
        self.actions: deque[Callable[[], None]] = deque()
        self.next_context_id = 1
        self._next_calls = {"http": 0, "grpc": 1, "grpc_stream": 2, "redis": 3}
        self._depth = 0
        self._ticker = module.engine.ticker
        self._armed_at = -1
        self._ticks = _NEVER if limits.deadline is None else max(int(limits.deadline / TICK), 1) + 1
        self.vm_context = VmContext(self)
        self.context: Context = self.vm_context
        self.current: Context = self.vm_context

        self.store = wasmtime.Store(module.engine.wasmtime)
        self.store.set_limits(memory_size=limits.memory, table_elements=limits.table)
        self._context_address = context_address(self.store)
        # Start functions run during instantiation and count against the first deadline.
        self._arm()
        self._linker = wasmtime.Linker(module.engine.wasmtime)
        # Fuel is the plugin's alone: what answers for Python must not use it up.
        self.fast = FastPath(self) if host.fast and limits.fuel is None else None
        self._thunks = link(self, self._linker)
        # A module's own start section may call the host, which then knows no memory yet.
        self.memory = Memory(None)
        self.exports: dict[str, Export] = {}
        self.instance = self._instantiate()
        self.memory = self._memory()
        self.exports = self._exports()
        if self.fast is not None:
            self.fast.attach(self.instance)

    def _instantiate(self) -> wasmtime.Instance:
        try:
            self._ticker.armed += 1
            return self._linker.instantiate(self.store, self.module.compiled)
        except wasmtime.Trap as trap:
            pending, self.pending = self.pending, None
            if pending is not None:
                raise pending from None
            raise trap_from(trap, self.module, "instantiation") from None
        except wasmtime.WasmtimeError as error:
            limit = "memory" if "memory" in str(error) else "table"
            raise LimitExceeded(f"cannot be instantiated: {error}", module=self.module.name, limit=limit) from None
        finally:
            self._ticker.armed -= 1

    def _memory(self) -> Memory:
        memory = self.instance.exports(self.store).get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise StartFailed("exports no memory", module=self.module.name, function="memory")
        return Memory(MemoryHandle(self.store, memory))

    def _exports(self) -> dict[str, Export]:
        exports = {}
        wanted = {*self.module.callbacks, self.module.allocator, "_initialize", "_start", "main", "__main_void"}
        for name, item in self.instance.exports(self.store).items():
            if name in wanted and isinstance(item, wasmtime.Func):
                params = [str(p) for p in item.type(self.store).params]
                exports[name] = Export(name or "", item, params)
        return exports

    def start(self) -> None:
        """Run the module's start functions, as Envoy does: `_initialize` and then `main`, or else `_start`.

        Raises:
            Trap: One of them trapped.
        """
        self.observer, observer = _StartGuard(), self.observer
        try:
            if "_initialize" in self.exports:
                self.run("_initialize", self.vm_context)
                if "main" in self.exports:
                    self.run("main", self.vm_context, 0, 0)
                elif "__main_void" in self.exports:
                    self.run("__main_void", self.vm_context)
            elif "_start" in self.exports:
                self.run("_start", self.vm_context)
        finally:
            self.observer = observer

    def allocate_context_id(self) -> int:
        """An id that no live context has."""
        while self.next_context_id in self.contexts:
            self.next_context_id = self.next_context_id + 1 & 0xFFFFFFFF or 1
        context_id = self.next_context_id
        self.next_context_id = context_id + 1 & 0xFFFFFFFF or 1
        return context_id

    def next_call_id(self, kind: str) -> int:
        """A token for a call-out; its two lowest bits are the kind, as in Envoy."""
        self._next_calls[kind] += 4
        return self._next_calls[kind]

    def call(self, name: str, context: Context, *args: int) -> int | None:
        """Call a callback on behalf of `context`, then what it deferred; None when the module has no such callback.

        Raises:
            Trap: The plugin trapped; the VM is unusable from now on.
        """
        function = self.module.callbacks.get(name)
        if function is None or self.failure is not None:
            return None
        if self.observer is None:
            return self.run(name, context, *args)
        return self.observer.callback(self, function, list(args), lambda *changed: self.run(name, context, *changed))

    def run(self, name: str, context: Context, *args: int) -> int:
        """Enter Wasm through an export; nothing is deferred or observed."""
        export = self.exports[name]
        with self.lock:
            if self.fast is not None and (replay := self.fast.replays.get(context.id)) is not None:
                return replay.answer(name)
            if self._depth >= self.limits.depth:
                raise StackExhausted(
                    f"calls between host and plugin nested deeper than {self.limits.depth}",
                    module=self.module.name,
                    callback=name,
                )
            words = export.words
            for index, value in enumerate(args):
                words[4 * index] = value
            saved = self.current, self.context
            self.current = self.context = context
            fast = self.fast
            if not self._depth:
                self._arm()
            try:
                if fast is not None:
                    fast.enter(name, nested=self._depth > 0)
                error = self._enter(export)
            finally:
                if fast is not None:
                    fast.leave()
                self.current, self.context = saved
            trap = export.take_trap()
            if error or trap is not None or self.pending is not None:
                self.fail_call(name, trap, take_error(error) if error else None)
            return int(words[0])

    @property
    def entered(self) -> bool:
        """Whether a call into the plugin is under way."""
        return self._depth > 0

    def walk(self, export: Export, root: Context) -> int | None:
        """Enter Wasm for several callbacks of one stream in one turn; what `_enter` returns."""
        saved = self.current, self.context
        self.current = self.context = root
        self._arm()
        try:
            return self._enter(export)
        finally:
            self.current, self.context = saved

    def _enter(self, export: Export) -> int | None:
        """Enter Wasm; the address of the engine's error, if there is one. A trap is left with the export."""
        self._depth += 1
        self._ticker.armed += 1
        try:
            error: int | None = call_unchecked(
                self._context_address, export.address, export.slots, export.count, export.trap
            )
            return error
        finally:
            self._ticker.armed -= 1
            self._depth -= 1

    def _arm(self) -> None:
        if self.limits.fuel is not None:
            self.store.set_fuel(self.limits.fuel)
        ticker = self._ticker
        ticker.uses += 1
        if self._armed_at != ticker.ticks:
            self._armed_at = ticker.ticks
            set_epoch_deadline(self._context_address, self._ticks)
        if not ticker.awake and self.limits.deadline is not None:
            ticker.wake()

    def rearm(self) -> None:
        """Begin the deadline anew, after a debugger kept the plugin standing."""
        set_epoch_deadline(self._context_address, self._ticks)

    def fail_call(self, name: str, trap: wasmtime.Trap | None, error: wasmtime.WasmtimeError | None) -> None:
        """A call failed: make the VM unusable and raise what it failed with."""
        pending, self.pending = self.pending, None
        if pending is not None and not isinstance(pending, Trap):
            # A Python callable of the host failed, or a strict host refused a call. The stack in the plugin is gone,
            # so that its state cannot be trusted.
            failure = Trap(f"the host stopped it: {pending}", module=self.module.name, callback=name)
            failure.__cause__ = pending
            self.fail(failure)
            raise pending
        if isinstance(pending, Trap):
            failure = pending
        elif trap is not None:
            failure = trap_from(trap, self.module, name)
        else:
            failure = Trap(str(error), module=self.module.name, callback=name)
        self.fail(failure)
        raise failure

    def fail(self, failure: Trap) -> None:
        """Make the VM unusable; the first failure counts."""
        if self.failure is None:
            self.failure = failure

    def after_call(self, action: Callable[[], None]) -> None:
        """Defer `action` until the callback under way has returned."""
        self.actions.append(action)

    def run_deferred(self) -> None:
        """Run what was deferred; every entry point does so once its callback returned."""
        self.stop_iteration = False
        while self.actions:
            self.actions.popleft()()

    def allocate(self, size: int) -> int:
        """Let the plugin allocate `size` bytes.

        Raises:
            OutOfBounds: Its allocator failed or answered with memory that it does not have.
        """
        address = self.fast.take_allocation() if self.fast is not None else None
        if address is None:
            if not self.exports:
                raise OutOfBounds("the allocator cannot be called yet")
            address = self.run(self.module.allocator, self.vm_context, size)
        if not address:
            raise OutOfBounds("the allocator returned 0")
        return address

    def answer(self, data: bytes, pointer: int, size_pointer: int) -> None:
        """Answer with bytes: allocate, copy, and write address and size where the plugin wants them."""
        memory = self.memory
        address = 0
        if data:
            address = self.allocate(len(data))
            memory.write(address, data)
        memory.write_u32(pointer, address)
        memory.write_u32(size_pointer, len(data))

    def report(self, problem: PluginError) -> None:
        """Record what the plugin did wrong; a strict host raises it instead."""
        self.context.problems.append(problem)
        if self.host.strict:
            raise problem

    def __getstate__(self) -> Any:
        raise TypeError("a running plugin cannot be pickled")
