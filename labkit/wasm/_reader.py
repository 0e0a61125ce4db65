"""Reading the primitives of the wasm binary format, with every bound checked."""

from __future__ import annotations

from labkit.wasm._errors import MalformedModule


class Reader:
    """A cursor over `data[offset:end]` that never reads outside it."""

    __slots__ = ("data", "end", "offset")

    def __init__(self, data: bytes, offset: int = 0, end: int | None = None) -> None:
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return self.offset >= self.end

    def byte(self) -> int:
        """The next byte."""
        if self.offset >= self.end:
            raise MalformedModule("it ends too early", self.offset)
        value = self.data[self.offset]
        self.offset += 1
        return value

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.offset
        self.skip(size)
        return self.data[start : self.offset]

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        if size > self.end - self.offset:
            raise MalformedModule(f"{size} bytes are announced, {self.end - self.offset} are left", self.offset)
        self.offset += size

    def unsigned(self, bits: int = 32) -> int:
        """A LEB128 number that must fit into `bits`, in no more bytes than that can need."""
        start = self.offset
        value = shift = 0
        while True:
            part = self.byte()
            value |= (part & 0x7F) << shift
            shift += 7
            if not part & 0x80:
                break
            if shift >= bits:
                raise MalformedModule(f"a number is longer than {bits} bits allow", start)
        if value >> bits:
            raise MalformedModule(f"a number does not fit into {bits} bits", start)
        return value

    def count(self) -> int:
        """The length of a vector; each element takes a byte at least, so more than are left cannot be true."""
        start = self.offset
        value = self.unsigned()
        if value > self.end - self.offset:
            raise MalformedModule(f"{value} entries are announced, {self.end - self.offset} bytes are left", start)
        return value

    def name(self) -> str:
        """A UTF-8 string with its length in front."""
        start = self.offset
        try:
            return self.take(self.unsigned()).decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedModule("a name is not UTF-8", start) from None

    def finish(self, what: str) -> None:
        """Insist that everything has been read."""
        if self.offset != self.end:
            raise MalformedModule(f"{what} has {self.end - self.offset} bytes too many", self.offset)


def encode_unsigned(value: int) -> bytes:
    """The shortest LEB128 form of `value`."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
