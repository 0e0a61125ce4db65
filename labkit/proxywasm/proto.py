"""Just enough of the protobuf wire format to read the few small messages that plugins pass to the host."""

from __future__ import annotations


def fields(message: bytes) -> dict[int, bytes] | None:
    """The length-delimited fields by number, the last of each; None when the bytes are no such message.

    Numbers in varint fields are read over; other wire types make it None.
    """
    found: dict[int, bytes] = {}
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        value, position = varint(message, position)
        if tag & 7 == 2:
            if position + value > len(message):
                return None
            found[tag >> 3] = message[position : position + value]
            position += value
        elif tag & 7:
            return None
    return found if position == len(message) else None


def varint(data: bytes, position: int) -> tuple[int, int]:
    """A number and the position behind it; beyond the end, one that is too big for any message."""
    value, shift = 0, 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    return 1 << 64, len(data) + 1
