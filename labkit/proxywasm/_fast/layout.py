"""Where the resident state lies in the responder's memory; the WAT fragments name these places in percent signs.

64        control block: what is resident, who may use it, what changed
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
    "CHANGED",
    "REPLIED",
    "STEPS_DONE",
    "LOG_NEXT",
    "PROPERTY_CHANGED",
    "REPLY_STATUS",
    "REPLY_GRPC",
    "REPLY_DETAILS",
    "REPLY_DETAILS_BYTES",
    "REPLY_BODY",
    "REPLY_BODY_BYTES",
    "REPLY_HEADERS",
    "REPLY_HEADERS_BYTES",
    "RESIDENT",
    "ARENA_NEXT",
    "STEPS_PLANNED",
    "CLOCK_REALTIME",
    "CLOCK_REALTIME_HIGH",
    "CLOCK_MONOTONIC",
    "CLOCK_MONOTONIC_HIGH",
    "CLOCK_ACCESS",
    "BUSY",
    "ARENA_END",
    "LOG_ACCESS",
    "LOG_LEVEL",
    "ANSWERS_NOT_FOUND",
    "LOG_LINE_BYTES",
    "REPLY_ACCESS",
    "PROPERTY_ACCESS",
    "PROPERTY_PAIRS",
    "PROPERTY_TABLE",
    "PROPERTY_ENTRIES",
)
"""The control block, a 32-bit word each. Python reads the first ones after every turn of the plugin."""

MAP_WORDS: Final = ("MAP_ACCESS", "MAP_PAIRS", "MAP_BYTES", "MAP_TABLE", "MAP_ENTRIES", "MAP_ROOM", "MAP_CHANGED", "_")
BUFFER_WORDS: Final = ("BUFFER_ACCESS", "BUFFER_DATA", "BUFFER_BYTES", "BUFFER_CHANGED")
STEP_WORDS: Final = (
    "STEP_CALLBACK",
    "STEP_SECOND",
    "STEP_THIRD",
    "STEP_EXPECTED",
    "STEP_SEAL",
    "STEP_WATCHES_REPLY",
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
SEAL_BUFFERS: Final = 0x100
SEAL_PROPERTIES: Final = 0x200
SEAL_REPLY: Final = 0x400
SEAL_ALL: Final = 0x7FF


def _places() -> dict[str, int]:
    places = {name: CONTROL + 4 * index for index, name in enumerate(CONTROL_WORDS)}
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
        "SEAL_BUFFERS": SEAL_BUFFERS,
        "SEAL_PROPERTIES": SEAL_PROPERTIES,
        "SEAL_REPLY": SEAL_REPLY,
        "LOG_END": MEMORY,
        "PAIRS_MAX": MAX_PAIRS,
        "PAIRS_MAX_BYTES": MAX_BYTES,
        "OK": 0,
        "NOT_FOUND": 1,
    }


PLACES: Final = _places()
"""Every name that a WAT fragment may use."""
