"""Several callbacks of one stream in one turn, and how the ordinary machinery takes over where that is not enough.

A walk runs ahead: it calls the callbacks that `HttpStream` would call for certain as long as the plugin answers in the
ordinary way. When that is all there was, its outcome is the stream's. Otherwise `HttpStream` is driven as always, and
gets for the callbacks that were walked already what they answered and changed, instead of calling them again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from labkit.proxywasm._fast.assemble import WALKED
from labkit.proxywasm._fast.layout import (
    ACCESS_BUFFERS,
    ACCESS_PROPERTIES,
    ACCESS_REPLY,
    ANY,
    CONTROL,
    DATA,
    LOG,
    PLACES,
    READ,
    STEP_COUNT,
    STREAM_BUFFERS,
    STREAM_MAPS,
    WATCH_CHANGES,
    WATCH_REPLY,
    WRITE,
)
from labkit.proxywasm._native import take_error
from labkit.proxywasm.headers import HeaderMap, MapKind, Pair

if TYPE_CHECKING:
    import wasmtime

    from labkit.proxywasm._fast.path import FastPath
    from labkit.proxywasm.contexts import PluginContext
    from labkit.proxywasm.http import HttpContext
    from labkit.proxywasm.stream import HttpStream

STEP: Final = struct.Struct("<8I")
STEP_SIZE: Final = STEP.size
STEPS_AT: Final = PLACES["STEPS"]
RESULT_AT: Final = PLACES["STEP_RESULT"]
STRAYED_AT: Final = PLACES["STRAYED"]
RESIDENT_AT: Final = PLACES["RESIDENT"]
STEPS_DONE_AT: Final = PLACES["STEPS_DONE"]
WORD: Final = struct.Struct("<I")
TWO_WORDS: Final = struct.Struct("<2I")

_KINDS: Final = (MapKind.REQUEST, MapKind.REQUEST_TRAILERS, MapKind.RESPONSE, MapKind.RESPONSE_TRAILERS)


@dataclass(frozen=True, slots=True)
class Step:
    """One callback of a plan.

    Attributes:
        name: Without `proxy_`.
        args: Its arguments after the context.
        expected: The answer that lets the walk go on.
        maps: Header maps that it may touch: index → READ, or READ | WRITE.
        body: The direction whose body it may touch.
        watches: What else ends the walk after this step.
        replies: Whether it may send a local reply.
    """

    name: str
    args: tuple[int, ...]
    expected: int = 0
    maps: tuple[tuple[int, int], ...] = ()
    body: int | None = None
    watches: int = WATCH_REPLY
    replies: bool = True

    def words(self) -> bytes:
        """As the responder reads it."""
        access = ACCESS_PROPERTIES | (ACCESS_REPLY if self.replies else 0)
        for kind, how in self.maps:
            access |= how << 2 * kind
        if self.body is not None:
            access |= (READ | WRITE) << ACCESS_BUFFERS + 2 * self.body
        second, third = (*self.args, 0, 0)[:2]
        return STEP.pack(WALKED.index(self.name), second, third, self.expected, access, self.watches, 0, 0)


def request_steps(parent: int, headers: int, body: int, has: Callable[[str], bool]) -> list[Step]:
    """The way of a request without trailers, up to where the upstream or a local reply comes in."""
    steps = [
        Step("on_context_create", (parent,), replies=False),
        Step("on_request_headers", (headers, int(not body)), maps=((0, READ | WRITE),)),
    ]
    if body:
        steps.append(Step("on_request_body", (body, 1), body=0))
    return [step for step in steps if has(step.name)]


def response_steps(headers: int, body: int, has: Callable[[str], bool], *, local: bool) -> list[Step]:
    """The way of a response without trailers; a second local reply is Python's to judge."""
    watches = 0 if local else WATCH_REPLY
    steps = [
        Step(
            "on_response_headers",
            (headers, int(not body)),
            maps=((2, READ | WRITE),),
            watches=watches | WATCH_CHANGES,
        )
    ]
    if body:
        steps.append(Step("on_response_body", (body, 1), body=1, watches=watches))
    return [step for step in steps if has(step.name)]


def last_steps(has: Callable[[str], bool]) -> list[Step]:
    """The end of a stream."""
    readable = ((0, READ), (2, READ))
    steps = [
        Step("on_log", (), ANY, maps=readable, watches=0, replies=False),
        Step("on_done", (), ANY, watches=0, replies=False),
        Step("on_delete", (), ANY, watches=0, replies=False),
    ]
    return [step for step in steps if has(step.name)]


class Image:
    """What is made resident at the beginning of a walk; made once for requests that repeat."""

    def __init__(
        self,
        fast: FastPath,
        maps: Sequence[tuple[int, bytes]],
        bodies: Sequence[tuple[int, bytes]],
        known: bytes,
        steps: Sequence[Step],
    ) -> None:
        image = bytearray(DATA - CONTROL)

        def put(place: int, *words: int) -> None:
            struct.pack_into(f"<{len(words)}I", image, place - CONTROL, *words)

        def append(data: bytes) -> int:
            place = CONTROL + len(image)
            image.extend(data)
            image.extend(bytes(-len(image) % 8))
            return place

        for kind, data in maps:
            put(PLACES["MAPS"] + PLACES["MAP_SIZE"] * kind + 4, append(data), len(data))
        for kind, data in bodies:
            put(PLACES["BUFFERS"] + PLACES["BUFFER_SIZE"] * kind + 4, append(data), len(data))
        put(PLACES["PROPERTY_PAIRS"], append(known) if known else 0)
        put(PLACES["STEPS_PLANNED"], len(steps))
        assert len(steps) <= STEP_COUNT
        for index, step in enumerate(steps):
            put(STEPS_AT + STEP_SIZE * index, *STEP.unpack(step.words()))
        self.end = CONTROL + len(image)
        put(PLACES["ARENA_NEXT"], self.end)
        fast.put_settings(put)
        self.data = bytes(image)
        self.fits = self.end < LOG

    def load(self, fast: FastPath, context: int) -> None:
        """Make it resident for a stream's context."""
        fast.view[CONTROL : self.end] = self.data
        WORD.pack_into(fast.view, RESIDENT_AT, context)
        fast.load_clock()


class Walk:
    """One stream under way.

    Attributes:
        context_id: The stream's context, which exists in the plugin alone until Python is asked something.
        steps: The plan so far.
        maps: Pairs of the header maps at the beginning, by kind.
        bodies: Bodies at the beginning, by direction.
        stream: Made when a host function in Python needs it, or to take over.
        reply_step: Which step sent the local reply that was taken up already.
    """

    def __init__(
        self,
        fast: FastPath,
        root: PluginContext,
        make_stream: Callable[[], HttpStream],
        steps: Sequence[Step],
        maps: Mapping[int, list[Pair]],
        bodies: Mapping[int, bytes],
    ) -> None:
        self.fast = fast
        self.root = root
        self.make_stream = make_stream
        self._plan = steps, maps, bodies
        self.stream: HttpStream | None = None
        self.broken = False
        self.trap: wasmtime.Trap | None = None
        self.error: wasmtime.WasmtimeError | None = None

    def start(self, image: Image) -> int:
        """Begin with a new context; a walk that ended well can be started again."""
        self.steps, self.maps, self.bodies = self._plan
        self.reply_step: int | None = None
        self.context_id = context_id = self.fast.vm.allocate_context_id()
        image.load(self.fast, context_id)
        return self.go()

    def go(self) -> int:
        """Walk on; how many steps are done."""
        fast = self.fast
        vm, export = fast.vm, fast.walk
        fast.walking = self
        try:
            error = vm.walk(export, self.root)
        finally:
            fast.walking = None
        self.trap = export.take_trap()
        if error or self.trap is not None or vm.pending is not None:
            self.broken = True
            self.error = take_error(error) if error else None
        self.strayed, done = TWO_WORDS.unpack_from(fast.view, STRAYED_AT)
        return int(done)

    @property
    def usable(self) -> bool:
        """Whether nothing trapped and Python was not asked anything about the stream."""
        return not self.broken and self.stream is None

    @property
    def ordinary(self) -> bool:
        """Whether, beside that, every answer was the expected one."""
        return self.usable and not self.strayed

    def materialize(self) -> HttpContext:
        """The stream's context in the state that it is in at this step, for a host function that needs it."""
        fast = self.fast
        WORD.pack_into(fast.view, PLACES["STOP"], 1)
        done = WORD.unpack_from(fast.view, STEPS_DONE_AT)[0]
        return self._materialize(done)

    def _materialize(self, index: int) -> HttpContext:
        fast = self.fast
        vm = fast.vm
        if self.stream is None:
            vm.next_context_id = self.context_id
            self.stream = self.make_stream()
        stream, step = self.stream, self.steps[index]
        context = stream.contexts[0]
        self._take_state(stream)
        self.actions: dict[int, list[Callable[[], None]]] = {}
        if self.reply_step is not None and self.reply_step != index:
            fast.pull_reply(context)
            self.actions[self.reply_step] = list(vm.actions)
            vm.actions.clear()
            vm.stop_iteration = False
        context.created = True
        context.logging = step.name == "on_log"
        context.end_of_stream = bool(step.args[-1]) if step.args else False
        for kind, access in step.maps:
            if access & WRITE:
                context.maps[kind] = self.header_maps[kind]
        if step.body is not None:
            context.bodies[step.body] = context.last_buffer = self.taken[step.body]
            stream.directions[step.body].last_chunk = True
        vm.current = vm.context = fast.context = context
        return context

    def _take_state(self, stream: HttpStream) -> None:
        fast = self.fast
        self.header_maps: dict[int, HeaderMap] = {}
        self.taken: dict[int, bytearray] = {}
        for kind, pairs in self.maps.items():
            header_map = self.header_maps[kind] = HeaderMap((), _KINDS[kind])
            header_map.pairs = fast.changed_pairs(kind) if fast.map_changed(kind) else pairs.copy()
            if kind == 0 and fast.map_changed(kind):
                stream.contexts[0].request_headers_changed()
        for side, body in self.bodies.items():
            self.taken[side] = bytearray(fast.changed_body(side) if fast.body_changed(side) else body)
        info = stream.info
        info.request_headers = self.header_maps.get(0)
        info.response_headers = self.header_maps.get(2)
        info.start_time = fast.vm.host.clock.time_ns()
        if info.response_headers is not None:
            info.code = int(info.response_headers.get(b":status") or 0)

    def hand_over(self, done: int) -> HttpStream:
        """A stream to be driven from its beginning; what was walked is answered from here."""
        fast = self.fast
        results = [WORD.unpack_from(fast.view, STEPS_AT + STEP_SIZE * index + RESULT_AT)[0] for index in range(done)]
        if self.broken:
            results.append(0)
        if self.stream is None:
            saved = fast.vm.current, fast.vm.context
            self._materialize(len(results) - 1)
            fast.vm.current, fast.vm.context = saved
        fast.leave()
        assert self.stream is not None
        context = self.stream.contexts[0]
        fast.replays[context.id] = Replay(self, results, context)
        return self.stream


class Replay:
    """Answers for callbacks that were walked already, in their order, with what they changed."""

    def __init__(self, walk: Walk, results: list[int], context: HttpContext) -> None:
        self.walk = walk
        self.results = results
        self.context = context
        self.index = 0
        vm = walk.fast.vm
        last = walk.steps[len(results) - 1]
        self._actions = list(vm.actions)
        self._stopped = vm.stop_iteration
        vm.actions.clear()
        vm.stop_iteration = False
        # Put the stream back to its beginning; what the last step left behind is given to it again at that step.
        stream = context.stream
        self._forgotten = [kind for kind, how in last.maps if how & WRITE and context.maps[kind] is None]
        self._forgot_body = last.body is not None and context.bodies[last.body] is None
        self._trailers = [direction.trailers for direction in stream.directions]
        context.created = context.logging = False
        context.maps = [None] * STREAM_MAPS
        context.bodies = [None] * STREAM_BUFFERS
        for direction in stream.directions:
            direction.last_chunk = False
            direction.trailers = None

    def answer(self, name: str) -> int:
        """What the callback answered when it was walked."""
        walk, vm, context = self.walk, self.walk.fast.vm, self.context
        step, result = walk.steps[self.index], self.results[self.index]
        assert name == f"proxy_{step.name}", f"walked {step.name}, driven {name}"
        for kind, _ in step.maps:
            if (header_map := context.maps[kind]) is not None:
                header_map.pairs = walk.header_maps[kind].pairs
        if step.body is not None and (body := context.bodies[step.body]) is not None:
            body[:] = walk.taken[step.body]
        if self.index == walk.reply_step and self.index in walk.actions:
            vm.actions.extend(walk.actions[self.index])
            vm.stop_iteration = True
        self.index += 1
        if self.index == len(self.results):
            self._finish(step)
            if walk.broken:
                vm.fail_call(name, walk.trap, walk.error)
        return result

    def _finish(self, step: Step) -> None:
        fast, context = self.walk.fast, self.context
        del fast.replays[context.id]
        for side, trailers in enumerate(self._trailers):
            if trailers is not None:
                context.maps[2 * side + 1] = context.stream.directions[side].add_trailers(trailers)
        for kind in self._forgotten:
            context.maps[kind] = None
        if self._forgot_body and step.body is not None:
            context.bodies[step.body] = None
        fast.vm.actions.extend(self._actions)
        fast.vm.stop_iteration = fast.vm.stop_iteration or self._stopped
