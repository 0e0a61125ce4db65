"""Where the resident state lies in the responder's memory; the WAT fragments name these places in percent signs.

CONTROL   the walk's own words, what the plugin changed, what is resident and who may use it
MAPS      one record a header map; its pairs are serialized in the data area and indexed at first use
BUFFERS   one record a buffer
STEPS     the plan of a walk
DATA      pairs, bodies and property values that Python wrote, then the arena for what the plugin writes
LOG       log lines
"""

from __future__ import annotations

from typing import Final

from labkit.proxywasm.headers import MAX_BYTES, MAX_PAIRS

PAGE: Final = 0x10000
PAGES: Final = 256
MEMORY: Final = PAGE * PAGES

LOG: Final = MEMORY - 4 * PAGE
DATA: Final = 0x600
CONTROL: Final = 64

CONTROL_WORDS: Final = (
    # The walk's own.
    "STEPS_PLANNED",
    "STOP",
    "BUSY",
    # What the allocator answered when that was no use: a flag, and the address.
    "REFUSED",
    "REFUSED_ADDRESS",
    "STRAYED",
    "STEPS_DONE",
    # What the plugin changed.
    "CHANGED",
    "REPLIED",
    "LOG_NEXT",
    "PROPERTY_CHANGED",
    "MAPS_CHANGED",
    "LAST_BUFFER",
    "REPLY_STATUS",
    "REPLY_GRPC",
    "REPLY_DETAILS",
    "REPLY_DETAILS_BYTES",
    "REPLY_BODY",
    "REPLY_BODY_BYTES",
    "REPLY_HEADERS",
    "REPLY_HEADERS_BYTES",
    # What is resident, and who may use it.
    "RESIDENT",
    "ARENA_NEXT",
    "ARENA_END",
    "LOG_ACCESS",
    "LOG_LEVEL",
    "LOG_LINE_BYTES",
    "ANSWERS_NOT_FOUND",
    "REPLY_ACCESS",
    "PROPERTY_ACCESS",
    "PROPERTY_PAIRS",
    "PROPERTY_TABLE",
    "PROPERTY_ENTRIES",
    "CLOCK_ACCESS",
    "CLOCK_REALTIME",
    "_",
    "CLOCK_MONOTONIC",
    "_",
)
"""The control block, a 32-bit word each; the clocks take two, and lie at multiples of 8."""

MAP_WORDS: Final = ("MAP_ACCESS", "MAP_PAIRS", "MAP_BYTES", "MAP_TABLE", "MAP_ENTRIES", "MAP_ROOM", "MAP_CHANGED", "_")
BUFFER_WORDS: Final = ("BUFFER_ACCESS", "BUFFER_DATA", "BUFFER_BYTES", "BUFFER_CHANGED")
STEP_WORDS: Final = (
    "STEP_CALLBACK",
    "STEP_SECOND",
    "STEP_THIRD",
    "STEP_EXPECTED",
    "STEP_ACCESS",
    "STEP_WATCHES",
    "STEP_RESULT",
    "_",
)

MAP_COUNT: Final = 8
BUFFER_COUNT: Final = 10
STEP_COUNT: Final = 16

READ: Final = 1
WRITE: Final = 2
PROPERTY_PRESENT: Final = 1
PROPERTY_SETTABLE: Final = 2
PROPERTY_SET: Final = 7

ANY: Final = 0xFFFFFFFF
"""The expected answer of a step whose answer does not matter."""

WATCH_REPLY: Final = 1
WATCH_CHANGES: Final = 2

STREAM_MAPS: Final = 4
STREAM_BUFFERS: Final = 2
ACCESS_BUFFERS: Final = 8
ACCESS_PROPERTIES: Final = 1 << 12
ACCESS_REPLY: Final = 1 << 13
"""A step's access word: two bits a map of the stream, two a body, then properties and the local reply."""


def _places() -> dict[str, int]:
    places = {name: CONTROL + 4 * index for index, name in enumerate(CONTROL_WORDS) if name != "_"}
    for words in (MAP_WORDS, BUFFER_WORDS, STEP_WORDS):
        places |= {name: 4 * index for index, name in enumerate(words) if name != "_"}
    maps = CONTROL + 4 * len(CONTROL_WORDS)
    buffers = maps + MAP_COUNT * 4 * len(MAP_WORDS)
    steps = buffers + BUFFER_COUNT * 4 * len(BUFFER_WORDS)
    end = steps + STEP_COUNT * 4 * len(STEP_WORDS)
    assert end <= DATA
    return places | {
        "MAPS": maps,
        "MAPS_ACCESS": maps,
        "MAP_COUNT": MAP_COUNT,
        "MAP_SIZE": 4 * len(MAP_WORDS),
        "MAP_SPARE": 32,
        "BUFFERS": buffers,
        "BUFFERS_ACCESS": buffers,
        "BUFFER_COUNT": BUFFER_COUNT,
        "BUFFER_SIZE": 4 * len(BUFFER_WORDS),
        "STEPS": steps,
        "STEP_SIZE": 4 * len(STEP_WORDS),
        "READ": READ,
        "WRITE": WRITE,
        "PROPERTY_PRESENT": PROPERTY_PRESENT,
        "PROPERTY_SETTABLE": PROPERTY_SETTABLE,
        "PROPERTY_SET": PROPERTY_SET,
        "ANY": ANY,
        "WATCH_REPLY": WATCH_REPLY,
        "WATCH_CHANGES": WATCH_CHANGES,
        "STREAM_MAPS": STREAM_MAPS,
        "STREAM_BUFFERS": STREAM_BUFFERS,
        "ACCESS_BUFFERS": ACCESS_BUFFERS,
        "ACCESS_PROPERTIES": ACCESS_PROPERTIES,
        "ACCESS_REPLY": ACCESS_REPLY,
        "LOG_END": MEMORY,
        "PAIRS_MAX": MAX_PAIRS,
        "PAIRS_MAX_BYTES": MAX_BYTES,
        "OK": 0,
        "NOT_FOUND": 1,
    }


PLACES: Final = _places()
"""Every name that a WAT fragment may use."""
