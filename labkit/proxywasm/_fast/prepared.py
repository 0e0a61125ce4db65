"""A request made ready to be sent more than once: the convenient call without the cost of encoding."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from labkit.proxywasm import localreply
from labkit.proxywasm._fast.layout import LOG, PLACES
from labkit.proxywasm._fast.path import RESULTS, TWO_WORDS, WORD
from labkit.proxywasm._fast.walk import (
    STEP_SIZE,
    STEPS_AT,
    Image,
    Step,
    Walk,
    last_steps,
    request_steps,
    response_steps,
)
from labkit.proxywasm.headers import HeaderInput, HeaderMap, MapKind, Pair, parse, serialize
from labkit.proxywasm.messages import Headers
from labkit.proxywasm.properties import StreamInfo
from labkit.proxywasm.request import request_pairs
from labkit.proxywasm.result import Result
from labkit.proxywasm.stream import HttpStream

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

RESULTS_AT: Final = PLACES["STEPS_DONE"]
_SMALL: Final = 4096
"""Bytes of a body up to which requests and replies are remembered: tests send the same few again and again."""

_REMEMBERED: Final = 256
"""Requests remembered for a plugin."""

_HOPELESS: Final = 16
"""Walks in a row that did not suffice after which a plugin is not walked any more."""

_MAP_2: Final = PLACES["MAPS"] + 2 * PLACES["MAP_SIZE"] + 4
_BUFFER_1: Final = PLACES["BUFFERS"] + PLACES["BUFFER_SIZE"] + 4


def send_ahead(
    plugin: Plugin, method: str, url: str, headers: HeaderInput | None, body: bytes, route: str, cluster: str
) -> Result | HttpStream | None:
    """Send a request the short way, if that can be.

    Returns:
        What the client gets; or a stream that was begun, through which the same request must be sent; or None, when
        the short way is closed.
    """
    vm = plugin.vm
    fast = vm.fast
    if fast is None or vm.observer is not None or vm.failure is not None or fast.handed_over >= _HOPELESS:
        return None
    given = tuple(headers.items() if isinstance(headers, Mapping) else headers) if headers else ()
    key = (plugin.context.id, method, url, given, body, route, cluster)
    prepared = fast.prepared.get(key)
    if prepared is None:
        if len(fast.prepared) >= _REMEMBERED:
            fast.prepared.clear()
        prepared = PreparedRequest(plugin, request_pairs(method, url, given), body, route, cluster)
        if len(body) <= _SMALL:
            fast.prepared[key] = prepared
    outcome = prepared.send()
    fast.handed_over = 0 if isinstance(outcome, Result) else fast.handed_over + 1
    return outcome


class PreparedRequest:
    """One request to one plugin.

    Args:
        pairs: Its headers, as a stream would be given them.
        body: Its body; it has no trailers.
    """

    def __init__(self, plugin: Plugin, pairs: list[Pair], body: bytes, route: str, cluster: str) -> None:
        fast = plugin.vm.fast
        assert fast is not None
        self.plugin = plugin
        self.vm = plugin.vm
        self.fast = fast
        self.route, self.cluster = route, cluster
        self.pairs = HeaderMap(pairs, MapKind.REQUEST).pairs
        self.body = body
        self.has = lambda name: f"proxy_{name}" in plugin.module.callbacks
        self.steps = request_steps(plugin.context.id, len(self.pairs), len(body), self.has)
        self.head = next((value for name, value in pairs if name == b":method"), b"") == b"HEAD"
        self.grpc = any(name == b"content-type" and value.startswith(b"application/grpc") for name, value in pairs)
        self.image: Image | None = None
        self._plans: dict[tuple[int, int], tuple[list[Step], bytes]] = {}
        self._maps = {0: self.pairs}
        self._bodies = {0: body}
        self._made_for: tuple[object, ...] = ()

    def new_stream(self) -> HttpStream:
        """A stream for this request."""
        return HttpStream([self.plugin], StreamInfo(route=self.route, cluster=self.cluster))

    def _current_image(self) -> Image:
        """The image, made anew when something it contains is not true any more."""
        fast, host = self.fast, self.vm.host
        made_for = (len(fast.wanted.paths), host.log_level)
        if self.image is None or made_for != self._made_for:
            self._made_for = made_for
            maps = [(0, serialize(self.pairs))]
            bodies = [(0, self.body)] if self.body else []
            self.image = Image(fast, maps, bodies, self.properties(), self.steps)
        return self.image

    def properties(self) -> bytes:
        if not self.fast.wanted.paths:
            return b""
        vm = self.vm
        next_id = vm.next_context_id
        context = self.new_stream().contexts[0]
        known = self.fast.known_properties(context)
        del vm.contexts[context.id]
        vm.next_context_id = next_id
        return serialize(known) if known else b""

    def send(self) -> Result | HttpStream:
        """What the client gets; or, where the walk does not suffice, a stream to send the same request through."""
        vm, fast = self.vm, self.fast
        image = self._current_image()
        if not image.fits or not self.steps:
            return self.new_stream()
        with vm.lock:
            context_id = vm.allocate_context_id()
            image.load(fast, context_id)
            fast.load_clock()
            walk = Walk(fast, self.plugin.context, context_id, self.new_stream, self.steps, self._maps, self._bodies)
            done = walk.go()
            results = RESULTS.unpack_from(fast.view, RESULTS_AT)
            if walk.ordinary and results[2] and not results[5]:
                result = self._reply(walk, done, results)
                if result is not None:
                    fast.clear()
                    return result
                done = WORD.unpack_from(fast.view, RESULTS_AT)[0]
            return walk.hand_over(done)

    def _reply(self, walk: Walk, done: int, results: tuple[int, ...]) -> Result | None:
        """Take the plugin's local reply through its response phases to the end; None when that is not simple."""
        view = self.fast.view
        status, _, details, details_size, body, body_size, pairs, pairs_size = results[7:15]
        if self.grpc or not 200 <= status <= 999:
            return None
        reply = (_known_reply if body_size <= _SMALL else _local_reply)(
            status, view[body : body + body_size].tobytes(), view[pairs : pairs + pairs_size].tobytes(), self.head
        )
        if not self._load_reply(walk, done, reply):
            return None
        headers = reply.client_headers
        while (done := walk.go()) < len(walk.steps):
            # The plugin changed the response's headers: go on when the client can still be sent them.
            if not walk.ordinary or walk.steps[done - 1].name != "on_response_headers":
                return None
            changed = HeaderMap((), MapKind.RESPONSE)
            changed.pairs = self.fast.changed_pairs(2)
            if not self.fast.map_changed(2) or changed.get(b":status") != reply.pairs[0][1]:
                return None
            headers = Headers(changed)
            WORD.pack_into(view, PLACES["MAPS_CHANGED"], 0)
        if not walk.ordinary or WORD.unpack_from(view, PLACES["LOG_NEXT"])[0] != LOG:
            return None
        text = view[details : details + details_size].tobytes().decode(errors="replace") if details_size else ""
        content = self.fast.changed_body(1).tobytes() if self.fast.body_changed(1) else reply.body
        return Result(status, headers, content, None, "plugin", None, details="_".join(text.split()))

    def _load_reply(self, walk: Walk, done: int, reply: _Reply) -> bool:
        """Make the reply resident and plan its way through the response phases."""
        view = self.fast.view
        place = WORD.unpack_from(view, PLACES["ARENA_NEXT"])[0]
        body = place + len(reply.data) + 7 & ~7
        end = body + len(reply.body) + 7 & ~7
        if end > LOG:
            return False
        view[place : place + len(reply.data)] = reply.data
        TWO_WORDS.pack_into(view, _MAP_2, place, len(reply.data))
        if reply.body:
            view[body : body + len(reply.body)] = reply.body
            TWO_WORDS.pack_into(view, _BUFFER_1, body, len(reply.body))
        WORD.pack_into(view, PLACES["ARENA_NEXT"], end)
        steps, words = self._reply_steps(len(reply.pairs), len(reply.body))
        at = STEPS_AT + STEP_SIZE * done
        view[at : at + len(words)] = words
        WORD.pack_into(view, PLACES["STEPS_PLANNED"], done + len(steps))
        walk.reply_step = done - 1
        walk.steps = (*walk.steps[:done], *steps)
        walk.maps = {**walk.maps, 2: reply.pairs}
        walk.bodies = {**walk.bodies, 1: reply.body}
        return True

    def _reply_steps(self, headers: int, body: int) -> tuple[list[Step], bytes]:
        plan = self._plans.get((headers, body))
        if plan is None:
            steps = [*response_steps(headers, body, self.has), *last_steps(self.has)]
            plan = self._plans[headers, body] = steps, b"".join(step.words() for step in steps)
        return plan


@dataclass(frozen=True, slots=True)
class _Reply:
    """A local reply as the client would get it, if the plugin did not change it in its response phases."""

    pairs: list[Pair]
    data: bytes
    body: bytes
    client_headers: Headers


def _local_reply(status: int, body: bytes, pairs: bytes, head: bool) -> _Reply:
    request = HeaderMap([(b":method", b"HEAD")]) if head else None
    reply = localreply.prepare(status, body, parse(pairs) if pairs else [], -1, request)
    return _Reply(reply.headers.pairs, serialize(reply.headers.pairs), reply.body, Headers(reply.headers))


_known_reply = functools.lru_cache(maxsize=256)(_local_reply)
