"""A request made ready to be sent more than once: the convenient call without the cost of encoding."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
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
from labkit.proxywasm.handlers import as_response
from labkit.proxywasm.headers import HeaderInput, HeaderMap, MapKind, Pair, parse, serialize, to_bytes, to_pairs
from labkit.proxywasm.messages import Headers, Request, Response
from labkit.proxywasm.properties import StreamInfo
from labkit.proxywasm.request import Upstream, request_pairs
from labkit.proxywasm.result import Result
from labkit.proxywasm.stream import HttpStream

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

RESULTS_AT: Final = PLACES["STEPS_DONE"]
_SMALL: Final = 16 << 10
"""Bytes of a body up to which requests and replies are remembered: tests send the same few again and again."""

_REMEMBERED: Final = 256
"""Requests remembered for a plugin."""

_VIA: Final = "via_upstream"
_ROUTED: Final = frozenset({b"route_name", b"cluster_name"})
"""Properties that Envoy knows only once the router has chosen; Higress knows them from the start."""

_HOPELESS: Final = 16
"""Walks in a row that did not suffice after which a plugin is not walked any more."""

_MAP_2: Final = PLACES["MAPS"] + 2 * PLACES["MAP_SIZE"] + 4
_BUFFER_1: Final = PLACES["BUFFERS"] + PLACES["BUFFER_SIZE"] + 4


def send_ahead(
    plugin: Plugin,
    method: str,
    url: str,
    headers: HeaderInput | None,
    body: bytes,
    route: str,
    cluster: str,
    upstream: Upstream | None,
) -> Result | HttpStream | None:
    """Send a request the short way, if that can be.

    Returns:
        What the client gets; or a stream that was begun, through which the same request must be sent; or None, when
        the short way is closed.
    """
    vm = plugin.vm
    fast = vm.fast
    closed = plugin.context.done or plugin.context.done_pending
    if fast is None or closed or vm.observer is not None or vm.failure is not None or fast.handed_over >= _HOPELESS:
        return None
    if plugin.context.done or plugin.context.done_pending:
        return None
    # What can be read once only must be left to the ordinary way.
    if not isinstance(headers, Mapping | Sequence | None):
        return None
    # An upstream that is a function may itself send requests through this plugin.
    if callable(upstream) and fast.passes:
        return None
    given = tuple((name, value) for name, value in (headers.items() if isinstance(headers, Mapping) else headers or ()))
    body = bytes(body)
    key = (plugin.context.id, method, url, given, body, route, cluster)
    prepared = fast.prepared.get(key)
    if prepared is None:
        if len(fast.prepared) >= _REMEMBERED:
            fast.prepared.clear()
        prepared = PreparedRequest(plugin, request_pairs(method, url, given), body, route, cluster)
        if len(body) <= _SMALL:
            fast.prepared[key] = prepared
    outcome = prepared.send(upstream)
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
        self.proto = any(name == b"x-forwarded-proto" for name, _ in pairs)
        self.image: Image | None = None
        self._walk: Walk | None = None
        self._plans: dict[tuple[int, int, bool], tuple[list[Step], bytes]] = {}
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
        """What the plugin is known to ask for, as serialized pairs."""
        if not self.fast.wanted.paths:
            return b""
        vm = self.vm
        next_id = vm.next_context_id
        context = self.new_stream().contexts[0]
        known = self.fast.known_properties(context)
        del vm.contexts[context.id]
        vm.next_context_id = next_id
        return serialize(known) if known else b""

    def send(self, upstream: Upstream | None = None) -> Result | HttpStream:
        """What the client gets; or, where the walk does not suffice, a stream to send the same request through."""
        vm, fast = self.vm, self.fast
        image = self._current_image()
        with vm.host.lock, vm.lock:
            if vm.entered or not image.fits:
                return self.new_stream()
            walk, self._walk = self._walk or self._new_walk(), None
            done = walk.start(image)
            if walk.usable:
                results = RESULTS.unpack_from(fast.view, RESULTS_AT)
                fast.passes = not results[2]
                result = self._reply(walk, done, results) if results[2] else self._pass(walk, done, upstream)
                if result is not None:
                    fast.clear()
                    self._walk = walk
                    return result
                done = WORD.unpack_from(fast.view, RESULTS_AT)[0]
            return walk.hand_over(done)

    def _new_walk(self) -> Walk:
        return Walk(self.fast, self.plugin.context, self.new_stream, self.steps, self._maps, self._bodies)

    def _reply(self, walk: Walk, done: int, results: tuple[int, ...]) -> Result | None:
        """The plugin's local reply goes through its response phases; None when that is not simple."""
        view = self.fast.view
        changed = results[5]
        status, _, details, details_size, body, body_size, pairs, pairs_size = results[7:15]
        if changed or self.grpc or not 200 <= status <= 999:
            return None
        reply = (_known_reply if body_size <= _SMALL else _local_reply)(
            status, view[body : body + body_size].tobytes(), view[pairs : pairs + pairs_size].tobytes(), self.head
        )
        walk.reply_step = done - 1
        received = self._receive(walk, done, reply)
        if received is None:
            return None
        text = view[details : details + details_size].tobytes().decode(errors="replace") if details_size else ""
        return Result(status, *received, None, "plugin", None, details="_".join(text.split()))

    def _pass(self, walk: Walk, done: int, upstream: Upstream | None) -> Result | None:
        """The request passed; the upstream's answer goes through the response phases; None when that is not simple."""
        fast = self.fast
        if not walk.ordinary or callable(upstream) or (not self.vm.higress and _ROUTED & fast.wanted.paths.keys()):
            return None
        forwarded = self._forwarded()
        answer = Response() if upstream is None else as_response(upstream)
        if forwarded is None or answer.trailers or not 200 <= answer.status <= 999:
            return None
        pairs = HeaderMap([(b":status", str(answer.status).encode()), *to_pairs(answer.headers)], MapKind.RESPONSE)
        if pairs.pairs[0][0] != b":status" or len(pairs.get(b":status") or b"") != 3:
            return None
        response = _Incoming(pairs.pairs, serialize(pairs.pairs), to_bytes(answer.body), Headers(pairs))
        WORD.pack_into(fast.view, PLACES["MAPS_CHANGED"], 0)
        received = self._receive(walk, done, response)
        return None if received is None else Result(answer.status, *received, None, "upstream", forwarded, details=_VIA)

    def _forwarded(self) -> Request | None:
        """What the upstream receives; None when the router would refuse it."""
        fast = self.fast
        pairs = self.pairs
        if fast.map_changed(0):
            pairs = fast.changed_pairs(0)
            names = {name for name, value in pairs if value}
            if not names.issuperset((b":path", b":method")) or b":authority" not in names:
                return None
            if self.proto and b"x-forwarded-proto" not in names:
                return None
        headers = HeaderMap()
        headers.pairs = pairs
        body = fast.changed_body(0).tobytes() if fast.body_changed(0) else self.body
        return Request(Headers(headers), body, None, self.cluster)

    def _receive(self, walk: Walk, done: int, response: _Incoming) -> tuple[Headers, bytes] | None:
        """Take a response through the plugin's response phases to the end of the stream: what the client gets of it."""
        view = self.fast.view
        if not self._load_response(walk, done, response):
            return None
        headers = response.client_headers
        while (done := walk.go()) < len(walk.steps):
            # The plugin changed the response's headers: go on when the client can still be sent them.
            if not self._only_headers_changed(walk, done):
                return None
            changed = HeaderMap((), MapKind.RESPONSE)
            changed.pairs = self.fast.changed_pairs(2)
            if changed.get(b":status") != response.pairs[0][1]:
                return None
            headers = Headers(changed)
            WORD.pack_into(view, PLACES["MAPS_CHANGED"], 0)
        if not walk.ordinary or self._replied_now(walk) or WORD.unpack_from(view, PLACES["LOG_NEXT"])[0] != LOG:
            return None
        return headers, self.fast.changed_body(1).tobytes() if self.fast.body_changed(1) else response.body

    def _replied_now(self, walk: Walk) -> bool:
        return walk.reply_step is None and bool(self.fast.view[PLACES["REPLIED"]])

    def _only_headers_changed(self, walk: Walk, done: int) -> bool:
        return (
            walk.ordinary
            and not self._replied_now(walk)
            and walk.steps[done - 1].name == "on_response_headers"
            and self.fast.map_changed(2)
        )

    def _load_response(self, walk: Walk, done: int, reply: _Incoming) -> bool:
        """Make the response resident and plan its way through the response phases."""
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
        # With a local reply, what the callback that sent it answered does not matter.
        WORD.pack_into(view, PLACES["STRAYED"], 0)
        steps, words = self._response_steps(len(reply.pairs), len(reply.body), local=walk.reply_step is not None)
        at = STEPS_AT + STEP_SIZE * done
        view[at : at + len(words)] = words
        WORD.pack_into(view, PLACES["STEPS_PLANNED"], done + len(steps))
        walk.steps = (*walk.steps[:done], *steps)
        walk.maps = {**walk.maps, 2: reply.pairs}
        walk.bodies = {**walk.bodies, 1: reply.body}
        return True

    def _response_steps(self, headers: int, body: int, *, local: bool) -> tuple[list[Step], bytes]:
        plan = self._plans.get((headers, body, local))
        if plan is None:
            steps = [*response_steps(headers, body, self.has, local=local), *last_steps(self.has)]
            plan = self._plans[headers, body, local] = steps, b"".join(step.words() for step in steps)
        return plan


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A response as the client would get it, if the plugin did not change it in its response phases."""

    pairs: list[Pair]
    data: bytes
    body: bytes
    client_headers: Headers


def _local_reply(status: int, body: bytes, pairs: bytes, head: bool) -> _Incoming:
    request = HeaderMap([(b":method", b"HEAD")]) if head else None
    reply = localreply.prepare(status, body, parse(pairs) if pairs else [], -1, request)
    return _Incoming(reply.headers.pairs, serialize(reply.headers.pairs), reply.body, Headers(reply.headers))


_known_reply = functools.lru_cache(maxsize=256)(_local_reply)
