"""A plugin's linear memory, read and written by the host with every access checked against its bounds."""

from __future__ import annotations

import struct

from labkit.proxywasm._native import MemoryHandle


class OutOfBounds(Exception):
    """A plugin named an address range that is not all in its memory; host functions answer it with a status."""


class Memory:
    """Bounds-checked access. The view is taken again only when an access does not fit the one at hand."""

    __slots__ = ("_handle", "_view")

    def __init__(self, handle: MemoryHandle | None) -> None:
        self._handle = handle
        self._view = memoryview(b"") if handle is None else handle.view()

    def __len__(self) -> int:
        return 0 if self._handle is None else self._handle.size()

    def _grown(self, end: int) -> memoryview:
        if end > len(self._view):
            if self._handle is not None:
                self._view = self._handle.view()
            if end > len(self._view):
                raise OutOfBounds(f"address {end:#x} is beyond the memory's end at {len(self._view):#x}")
        return self._view

    def read(self, address: int, size: int) -> bytes:
        """A copy of `size` bytes at `address`."""
        end = address + size
        view = self._view
        if end > len(view):
            view = self._grown(end)
        return view[address:end].tobytes()

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `address`."""
        end = address + len(data)
        view = self._view
        if end > len(view):
            view = self._grown(end)
        view[address:end] = data

    def read_u32(self, address: int) -> int:
        """The little-endian 32-bit number at `address`."""
        self._grown(address + 4)
        number: int = struct.unpack_from("<I", self._view, address)[0]
        return number

    def write_u32(self, address: int, value: int) -> None:
        """Write a 32-bit number, little-endian."""
        if address + 4 > len(self._view):
            self._grown(address + 4)
        struct.pack_into("<I", self._view, address, value & 0xFFFFFFFF)

    def read_u64(self, address: int) -> int:
        """The little-endian 64-bit number at `address`."""
        self._grown(address + 8)
        number: int = struct.unpack_from("<Q", self._view, address)[0]
        return number

    def write_u64(self, address: int, value: int) -> None:
        """Write a 64-bit number, little-endian."""
        self._grown(address + 8)
        struct.pack_into("<Q", self._view, address, value & 0xFFFFFFFFFFFFFFFF)
