"""Makes two outcomes comparable: takes out what Envoy adds for its own sake, and nothing else.

Each rule here is explained in docs/differences.md, which a test holds against this table.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from .model import DATE, Headers, Message, Outcome

PAIRS = re.compile(r"(\w pairs 0) (\S*)")
Rule = Callable[[Headers], Headers]


def _without_own_date(headers: Headers) -> Headers:
    return tuple((key, value) for key, value in headers if key != b"date" or value == DATE.encode())


def _without_envoy_headers(headers: Headers) -> Headers:
    return tuple((key, value) for key, value in headers if not key.startswith(b"x-envoy-"))


def _pseudo_headers_sorted(headers: Headers) -> Headers:
    pseudo = sorted(pair for pair in headers if pair[0].startswith(b":"))
    return (*pseudo, *(pair for pair in headers if not pair[0].startswith(b":")))


NORMALISED: dict[str, Rule] = {
    "date": _without_own_date,
    "x-envoy": _without_envoy_headers,
    "pseudo-headers": _pseudo_headers_sorted,
}


def normalise(outcome: Outcome) -> Outcome:
    """The outcome with every rule applied; bodies as one chunk, since networks may cut them anew."""
    return replace(
        outcome,
        reply=_message(outcome.reply),
        forwarded=_message(outcome.forwarded),
        callouts=tuple(_plain(message) for message in outcome.callouts),
        log=tuple(_log_line(line) for line in outcome.log),
    )


def decode_pairs(escaped: str) -> list[tuple[bytes, bytes]]:
    """A header map as the plugin `script` logs it."""
    data = unquote_to_bytes(escaped)
    (count,) = struct.unpack_from("<I", data)
    sizes = struct.unpack_from(f"<{2 * count}I", data, 4)
    pairs, at = [], 4 + 8 * count
    for key_size, value_size in zip(sizes[::2], sizes[1::2], strict=True):
        pairs.append((data[at : at + key_size], data[at + key_size + 1 : at + key_size + 1 + value_size]))
        at += key_size + value_size + 2
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last pair")
    return pairs


def _log_line(line: str) -> str:
    """Header maps spelled out, without the milliseconds that a call-out took and without Envoy's own date."""
    found = PAIRS.fullmatch(line)
    if found is None or not found[2]:
        return line
    shown = [
        (key, b"0" if key == b"x-envoy-upstream-service-time" else value)
        for key, value in _without_own_date(tuple(decode_pairs(found[2])))
    ]
    return f"{found[1]} {shown}"


def _message(message: Message | None) -> Message | None:
    return None if message is None else _plain(message)


def _plain(message: Message) -> Message:
    headers = message.headers
    for rule in NORMALISED.values():
        headers = rule(headers)
    return Message(headers, (message.body,) if message.body else (), message.trailers)


def differences(envoy: Outcome, embedded: Outcome) -> list[str]:
    """Where two outcomes differ, one line a place; empty when they are the same."""
    left, right = normalise(envoy), normalise(embedded)
    found = []
    for place in ("reply", "forwarded"):
        found += _between(place, getattr(left, place), getattr(right, place))
    if left.complete != right.complete:
        found.append(f"complete: Envoy {left.complete}, embedded host {right.complete}")
    if len(left.callouts) != len(right.callouts):
        found.append(f"call-outs: Envoy made {len(left.callouts)}, embedded host {len(right.callouts)}")
    for one, other in zip(left.callouts, right.callouts, strict=False):
        found += _between("call-out", one, other)
    if left.log != right.log:
        found.append("log:\n" + _side_by_side(left.log, right.log))
    return found


def _between(place: str, left: Message | None, right: Message | None) -> list[str]:
    if left is None or right is None:
        return [] if left is right else [f"{place}: Envoy {_shown(left)}, embedded host {_shown(right)}"]
    return [
        f"{place}.{part}: Envoy {_shown(mine)}, embedded host {_shown(other)}"
        for part in ("headers", "body", "trailers")
        if (mine := getattr(left, part)) != (other := getattr(right, part))
    ]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 1500 else f"{text[:700]} … {text[-700:]} ({len(text)})"


def _side_by_side(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    lines = []
    for index in range(max(len(left), len(right))):
        mine = left[index] if index < len(left) else "(nothing)"
        other = right[index] if index < len(right) else "(nothing)"
        lines.append(f"  {mine}" if mine == other else f"- {mine}   (Envoy)\n+ {other}   (embedded host)")
    return "\n".join(lines)
