"""What modules built by Emscripten ask for."""

from __future__ import annotations

from labkit.proxywasm.vm import Vm


def emscripten_notify_memory_growth(vm: Vm, memory: int) -> int:
    """The memory grew; the host looks for itself."""
    return 0


def pthread_equal(vm: Vm, left: int, right: int) -> int:
    """Whether two thread ids are the same."""
    return int(left == right)
