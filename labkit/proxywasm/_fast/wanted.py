"""What a plugin was seen asking for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from labkit.proxywasm._fast.assemble import HOT
from labkit.proxywasm._fast.layout import BUFFER_COUNT, MAP_COUNT
from labkit.proxywasm.http import HttpContext

if TYPE_CHECKING:
    from labkit.proxywasm.vm import Vm

_LIVE: Final = (b"request", b"response", b"connection", b"upstream", b"source", b"destination")
"""Properties below these may change while a callback runs; Python looks them up every time."""


class Wanted:
    """What a plugin was seen asking for, so that only that is made resident."""

    _MOST_PATHS: Final = 64

    def __init__(self) -> None:
        self.callbacks: set[str] = set()
        self.maps: set[int] = set()
        self.buffers: set[int] = set()
        self.paths: dict[bytes, None] = {}

    def note_of(self, function: str) -> Callable[[Vm, str, tuple[int, ...]], None] | None:
        """What notes the arguments of a host function; None for one that is never answered inside."""
        if "header_map" in function:
            return self._note_map
        if function in ("proxy_get_buffer_bytes", "proxy_set_buffer_bytes", "proxy_get_buffer_status"):
            return self._note_buffer
        if function in ("proxy_get_property", "proxy_set_property"):
            return self._note_path
        return self._note_call if function in HOT else None

    def _note_call(self, vm: Vm, callback: str, args: tuple[int, ...]) -> None:
        if isinstance(vm.context, HttpContext):
            self.callbacks.add(callback)

    def _note_map(self, vm: Vm, callback: str, args: tuple[int, ...]) -> None:
        self._note_call(vm, callback, args)
        if args[0] < MAP_COUNT and vm.context.map(args[0]) is not None:
            self.maps.add(args[0])

    def _note_buffer(self, vm: Vm, callback: str, args: tuple[int, ...]) -> None:
        self._note_call(vm, callback, args)
        if args[0] < BUFFER_COUNT and isinstance(vm.context, HttpContext):
            self.buffers.add(args[0])

    def _note_path(self, vm: Vm, callback: str, args: tuple[int, ...]) -> None:
        self._note_call(vm, callback, args)
        if len(self.paths) < self._MOST_PATHS and args[1] <= 256 and args[0] + args[1] <= len(vm.memory):
            path = vm.memory.read(args[0], args[1])
            # A single part only: those are the ones a plugin can set and read back, and none is another's prefix.
            if path and b"\0" not in path and path not in _LIVE:
                self.paths[path] = None
