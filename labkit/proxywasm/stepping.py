"""A debugger for plugins: stop at each call between host and plugin, look, change, go on.

    with plugin.step(lambda: plugin.request("GET", "http://example.com/")) as steps:
        for stop in steps:
            print(stop)
            if stop.name == "proxy_get_header_map_value" and stop.entering:
                stop.answer(Status.NOT_FOUND)         # don't run it, answer this
            elif stop.name == "proxy_on_request_headers" and not stop.entering:
                stop.result = 0
        print(steps.value)                             # what the request returned

The plugin runs in a thread of its own, which waits while the loop's body runs; so both may touch the same state.
Deadlines don't count while it is stopped.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from labkit.proxywasm.abi import Function
from labkit.proxywasm.memory import Memory
from labkit.proxywasm.trace import decode_answers, decode_arguments, decode_result

if TYPE_CHECKING:
    from labkit.proxywasm.contexts import Context
    from labkit.proxywasm.vm import Vm

T = TypeVar("T")
_STACK = 16 << 20


class Stop:
    """A place where the plugin stands still: before a call, or after it.

    Attributes:
        name: The function's name, as in the ABI.
        kind: `callback` (the host calls the plugin) or `host` (the plugin calls the host).
        entering: True before the call, False after it.
        args: The raw Wasm arguments; may be changed while entering.
        result: The raw result; may be changed while leaving.
        depth: How many calls it is nested in.
    """

    def __init__(
        self, vm: Vm, function: Function, kind: str, args: list[int], depth: int, result: int | None = None
    ) -> None:
        self._vm = vm
        self.function = function
        self.name = function.name
        self.kind = kind
        self.args = args
        self.entering = result is None
        self.result = result
        self.depth = depth
        self.answered: int | None = None

    @property
    def memory(self) -> Memory:
        """The plugin's memory, to read and to write."""
        return self._vm.memory

    @property
    def context(self) -> Context:
        """The context whose state host calls act on."""
        return self._vm.context

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, decoded."""
        return decode_arguments(self._vm.memory, self.function, self.args)

    @property
    def answers(self) -> dict[str, Any]:
        """What the host answered through pointers, decoded; empty before the call."""
        if self.entering or self.kind == "callback":
            return {}
        return decode_answers(self._vm.memory, self.function, self.args, self.result or 0)

    def answer(self, result: int) -> None:
        """Don't run the call; answer this instead."""
        if not self.entering:
            raise ValueError(f"{self.name} has run already; change stop.result")
        self.answered = result

    def __repr__(self) -> str:
        args = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        arrow = "→" if self.entering else "←"
        outcome = "" if self.entering else f" = {decode_result(self.function, self.result or 0)}"
        answers = "".join(f" {name}={value!r}" for name, value in self.answers.items())
        return f"{'  ' * self.depth}{arrow} {self.name}({args}){outcome}{answers}"


class Steps(Generic[T]):
    """The stops of one run, one after the other.

    Attributes:
        value: What the run returned, once it is over.
    """

    value: T

    def __init__(self, vms: list[Vm], run: Callable[[], T]) -> None:
        self._vms = vms
        self._run = run
        self._stops: queue.SimpleQueue[Stop | None] = queue.SimpleQueue()
        self._resume: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._depth = 0
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._saved: list[Any] = []
        self._over = False
        self._detached = False

    def __enter__(self) -> Steps[T]:
        self._saved = [vm.observer for vm in self._vms]
        for vm in self._vms:
            vm.observer = self
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None and not self._over:
            # The loop ended early: let the plugin run to its end, since one that is torn off cannot go on.
            self._resume.put(False)
            self._thread.join()
        for vm, observer in zip(self._vms, self._saved, strict=True):
            vm.observer = observer

    def __iter__(self) -> Iterator[Stop]:
        self._start()
        while True:
            stop = self._stops.get()
            if stop is None:
                break
            yield stop
            self._resume.put(True)
        self._over = True
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("these steps were taken already")
        # Wasm runs on this thread's stack; some systems give new threads very little.
        previous = threading.stack_size(_STACK)
        try:
            self._thread = threading.Thread(target=self._work, name="labkit-stepping", daemon=True)
            self._thread.start()
        finally:
            threading.stack_size(previous)

    def _work(self) -> None:
        try:
            self.value = self._run()
        except BaseException as error:
            self._error = error
        finally:
            self._stops.put(None)

    def callback(self, vm: Vm, function: Function, args: list[int], run: Callable[..., int]) -> int:
        """A callback begins."""
        return self._stopped(vm, function, "callback", args, run)

    def host_call(self, vm: Vm, function: Function, args: list[int], run: Callable[..., int]) -> int:
        """A host function begins."""
        return self._stopped(vm, function, "host", args, run)

    def _stopped(self, vm: Vm, function: Function, kind: str, args: list[int], run: Callable[..., int]) -> int:
        before = self._wait(Stop(vm, function, kind, args, self._depth), vm)
        self._depth += 1
        try:
            result = run(*before.args) if before.answered is None else before.answered
        finally:
            self._depth -= 1
        after = self._wait(Stop(vm, function, kind, before.args, self._depth, result or 0), vm)
        return after.result or 0

    def _wait(self, stop: Stop, vm: Vm) -> Stop:
        if self._detached:
            return stop
        self._stops.put(stop)
        self._detached = not self._resume.get()
        vm.rearm()
        return stop
