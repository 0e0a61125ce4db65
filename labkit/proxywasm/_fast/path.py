"""Makes a stream's state resident in the responder, and takes over what the plugin changed there."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from labkit.proxywasm import abi, properties
from labkit.proxywasm._fast.helpers import instantiate_responder, instantiate_trampolines
from labkit.proxywasm._fast.layout import (
    DATA,
    LOG,
    PLACES,
    PROPERTY_PRESENT,
    PROPERTY_SET,
    PROPERTY_SETTABLE,
    READ,
    STREAM_BUFFERS,
    STREAM_MAPS,
    WRITE,
)
from labkit.proxywasm._fast.wanted import Wanted
from labkit.proxywasm.abi import LogLevel, MapType, Status
from labkit.proxywasm.clock import FakeClock
from labkit.proxywasm.headers import Pair, parse, serialize
from labkit.proxywasm.http import HttpContext
from labkit.proxywasm.memory import OutOfBounds

if TYPE_CHECKING:
    import wasmtime

    from labkit.proxywasm._fast.prepared import PreparedRequest
    from labkit.proxywasm._fast.walk import Replay, Walk
    from labkit.proxywasm.contexts import Context
    from labkit.proxywasm.vm import Vm

Handler = Callable[..., int]

RESULTS: Final = struct.Struct("<15I")
"""STEPS_DONE, CHANGED, REPLIED, LOG_NEXT, PROPERTY_CHANGED, MAPS_CHANGED, LAST_BUFFER, and the local reply."""

WORD: Final = struct.Struct("<I")
HEAD: Final = struct.Struct("<12I")
MAP: Final = struct.Struct("<7I")
BUFFER: Final = struct.Struct("<4I")
TWO_WORDS: Final = struct.Struct("<2I")
TWO_LONGS: Final = struct.Struct("<2Q")

STATE: Final = PLACES["CHANGED"]
STATE_END: Final = PLACES["STEPS"]
_RESULTS_AT: Final = PLACES["STEPS_DONE"]
_HEAD_AT: Final = PLACES["RESIDENT"]
_MAPS_AT: Final = PLACES["MAPS"]
_MAP_SIZE: Final = PLACES["MAP_SIZE"]
_BUFFERS_AT: Final = PLACES["BUFFERS"]
_BUFFER_SIZE: Final = PLACES["BUFFER_SIZE"]

_STATELESS: Final = frozenset({"wasi", "metrics", "shared_data", "queues", "clock", "emscripten"})
"""Groups of host calls that neither see nor change what is resident."""


class FastPath:
    """The responder of one VM.

    Attributes:
        context: The stream whose state is resident; None while nothing is, or a walk goes on without Python.
        walking: The walk under way.
        prepared: Requests that were sent before, ready to be sent again.
        passes: Whether the plugin let the last request pass.
        handed_over: How many walks in a row did not suffice.
        replays: Answers for callbacks that were walked before they were called, by context.
        wanted: What the plugin was seen asking for: only that is made resident.
    """

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.context: HttpContext | None = None
        self.walking: Walk | None = None
        self.replays: dict[int, Replay] = {}
        self.prepared: dict[object, PreparedRequest] = {}
        self.passes = False
        self.handed_over = 0
        self.wanted = Wanted()
        self._attached = False
        self._away: tuple[Context, Context] | None = None
        self._callback = ""
        self._blank = bytes(STATE_END - STATE)

    def link(self, linker: wasmtime.Linker, define: Callable[[abi.Function], None]) -> None:
        """Put trampolines in the place of the hot calls that `linker` defines; `define` adds those it lacks."""
        vm = self.vm
        # The responder's memory is the host's own and must not count as the plugin's.
        vm.store.set_limits()
        self._trampolines = instantiate_trampolines(vm.store, linker, vm.module.engine, define)
        vm.store.set_limits(memory_size=vm.limits.memory, table_elements=vm.limits.table)

    def attach(self, plugin: wasmtime.Instance) -> None:
        """Hand the hot calls to the responder, now that the plugin's memory and allocator are there."""
        vm = self.vm
        responder = instantiate_responder(vm.store, vm.module, plugin, self._trampolines)
        self.walk = responder.walk
        self.view = responder.memory.view()
        self._answers_not_found = int(vm.module.version != abi.V0_1_0)
        self._attached = True

    def enter(self, name: str, *, nested: bool) -> None:
        """A callback begins: what it is known to ask for is made resident.

        A nested one begins while a host function runs in Python: afterwards the outer one's state is resident again.
        """
        if nested:
            self.leave()
            return
        self._callback = name
        self._away = None
        if name in self.wanted.callbacks and self.vm.observer is None:
            self.push()

    def leave(self) -> None:
        """The callback is over, or trapped; or Python's turn begins."""
        self._away = None
        if self.context is not None:
            self.pull()
            self.clear()

    def guard(self, function: abi.Function, handler: Handler) -> Handler:
        """`handler` with the resident state handed over to Python before it, and resident again after it."""
        stateless = function.group in _STATELESS and function.name != "fd_write"
        note = self.wanted.note_of(function.name)

        def guarded(vm: Vm, *args: int) -> int:
            if not self._attached:
                return handler(vm, *args)
            if self.view[PLACES["BUSY"]]:
                self._go_away()
                return handler(vm, *args)
            self._come_back()
            if stateless:
                return self._without_state(handler, args)
            if self.walking is not None and self.walking.stream is None:
                self.walking.materialize()
            self.leave()
            if note is not None:
                note(vm, self._callback, args)
            try:
                return handler(vm, *args)
            finally:
                if vm.observer is None:
                    self.push()

        return guarded

    def _without_state(self, handler: Handler, args: tuple[int, ...]) -> int:
        try:
            return handler(self.vm, *args)
        except OutOfBounds:
            # What is wrong with the call is noted with the stream.
            if self.walking is not None and self.walking.stream is None:
                self.walking.materialize()
                self.leave()
            raise

    def take_allocation(self) -> int | None:
        """What the plugin's allocator answered when the responder asked and could not use it; once."""
        refused, address = TWO_WORDS.unpack_from(self.view, PLACES["REFUSED"]) if self._attached else (0, 0)
        if not refused:
            return None
        WORD.pack_into(self.view, PLACES["REFUSED"], 0)
        return int(address)

    def _go_away(self) -> None:
        """The plugin's allocator, working for the responder, called: that is on behalf of the VM, as always."""
        vm = self.vm
        if self._away is None:
            self._away = vm.current, vm.context
            vm.current = vm.context = vm.vm_context

    def _come_back(self) -> None:
        if self._away is not None:
            self.vm.current, self.vm.context = self._away
            self._away = None

    def push(self) -> None:
        """Make what the plugin wants of the current context resident, when that is a stream's."""
        context = self.vm.context
        if not isinstance(context, HttpContext):
            return
        self.context = context
        wanted = self.wanted
        place = self._push_maps(context, wanted.maps, DATA)
        if wanted.buffers:
            place = self._push_buffers(context, wanted.buffers, place)
        pairs = 0
        if wanted.paths and (known := self.known_properties(context)):
            data = serialize(known)
            if place + len(data) <= LOG:
                self.view[place : place + len(data)] = data
                pairs, place = place, place + len(data) + 7 & ~7
        self._push_head(context, place, pairs)

    def _push_maps(self, context: HttpContext, kinds: set[int], place: int) -> int:
        view = self.view
        for kind in kinds:
            header_map = context.map(kind)
            if not header_map:
                continue
            data = serialize(header_map.pairs)
            end = place + len(data)
            if end > LOG:
                continue
            view[place:end] = data
            mutable = kind < STREAM_MAPS and context.maps[kind] is header_map and not context.logging
            access = READ | WRITE if mutable else READ
            MAP.pack_into(view, _MAPS_AT + _MAP_SIZE * kind, access, place, len(data), 0, 0, 0, 0)
            place = end + 7 & ~7
        return place

    def _push_buffers(self, context: Context, kinds: set[int], place: int) -> int:
        for kind in kinds:
            buffer = context.find_buffer(kind)
            if not buffer or place + len(buffer) > LOG:
                continue
            self.view[place : place + len(buffer)] = buffer
            access = READ | WRITE if isinstance(buffer, bytearray) else READ
            BUFFER.pack_into(self.view, _BUFFERS_AT + _BUFFER_SIZE * kind, access, place, len(buffer), 0)
            place = place + len(buffer) + 7 & ~7
        return place

    def known_properties(self, context: HttpContext) -> list[Pair]:
        """What is known of the wanted paths; a path that is left out is looked up by Python."""
        known = []
        info = context.info
        for path in self.wanted.paths:
            value = properties.lookup(context, path)
            if isinstance(value, Status) and value is not Status.NOT_FOUND:
                continue
            # What a plugin sets it can read back, unless the host or the caller has an answer of their own.
            own = not info.properties and not properties.is_attribute(path)
            flags = PROPERTY_SETTABLE if own else 0
            if isinstance(value, Status):
                known.append((path, bytes((flags,))))
            else:
                known.append((path, bytes((flags | PROPERTY_PRESENT,)) + value))
        return known

    def _push_head(self, context: HttpContext, place: int, pairs: int) -> None:
        view = self.view
        WORD.pack_into(view, PLACES["LOG_NEXT"], LOG)
        HEAD.pack_into(view, _HEAD_AT, context.id, place, *self._settings, 1, int(pairs != 0), pairs, 0, 0)
        self.load_clock()

    def load_clock(self) -> None:
        """A clock that stands still can be read inside."""
        clock = self.vm.host.clock
        if isinstance(clock, FakeClock):
            TWO_LONGS.pack_into(self.view, PLACES["CLOCK_REALTIME"], clock.time_ns(), clock.monotonic_ns())
            WORD.pack_into(self.view, PLACES["CLOCK_ACCESS"], 1)

    @property
    def _settings(self) -> tuple[int, ...]:
        """ARENA_END, LOG_ACCESS, LOG_LEVEL, LOG_LINE_BYTES and ANSWERS_NOT_FOUND."""
        vm = self.vm
        return LOG, 1, vm.host.log_level, vm.limits.log_line_bytes, self._answers_not_found

    def put_settings(self, put: Callable[..., None]) -> None:
        """Write what does not depend on the stream into the image of a walk."""
        put(PLACES["LOG_NEXT"], LOG)
        put(PLACES["ARENA_END"], *self._settings)

    def clear(self) -> None:
        """Nothing is resident any more: every host call goes to Python."""
        self.context = None
        self.view[STATE:STATE_END] = self._blank

    def pull(self) -> None:
        """Take over what the plugin changed, as if its calls had come here one by one."""
        results = RESULTS.unpack_from(self.view, _RESULTS_AT)
        context = self.context
        if not results[1] or context is None:
            return
        if results[5]:
            for kind in range(STREAM_MAPS):
                if self.map_changed(kind):
                    self._pull_map(context, kind)
        for kind in range(STREAM_BUFFERS):
            if self.body_changed(kind):
                self._pull_body(context, kind)
        self._pull_rest(context, results)

    def _pull_rest(self, context: HttpContext, results: tuple[int, ...]) -> None:
        if results[3] != LOG:
            self._pull_logs(context, results[3])
        if results[6]:
            context.buffer(results[6] - 1)
        if results[4]:
            self._pull_properties(context)
        if results[2]:
            self._pull_reply(context, results)

    def map_changed(self, kind: int) -> bool:
        """Whether the plugin changed this header map."""
        return bool(self.view[_MAPS_AT + _MAP_SIZE * kind + PLACES["MAP_CHANGED"]])

    def body_changed(self, side: int) -> bool:
        """Whether the plugin changed this direction's body."""
        return bool(self.view[_BUFFERS_AT + _BUFFER_SIZE * side + PLACES["BUFFER_CHANGED"]])

    def pull_reply(self, context: HttpContext) -> None:
        """Take over the local reply alone."""
        self._pull_reply(context, RESULTS.unpack_from(self.view, _RESULTS_AT))
        WORD.pack_into(self.view, PLACES["REPLIED"], 0)

    def _pull_logs(self, context: Context, end: int) -> None:
        at = LOG
        view = self.view
        while at < end:
            level, size = TWO_WORDS.unpack_from(view, at)
            context.log(LogLevel(level), view[at + 8 : at + 8 + size].tobytes().decode(errors="replace"))
            at = at + size + 15 & ~7

    def _pull_map(self, context: HttpContext, kind: int) -> None:
        header_map = context.maps[kind]
        # A walk that went past the phase keeps the change until the stream gets there.
        if header_map is None:
            return
        header_map.pairs = self.changed_pairs(kind)
        if kind == MapType.REQUEST_HEADERS:
            context.request_headers_changed()

    def changed_pairs(self, kind: int) -> list[Pair]:
        """A header map as the plugin left it."""
        _, _, _, table, count, _, _ = MAP.unpack_from(self.view, _MAPS_AT + _MAP_SIZE * kind)
        return list(self._table(table, count))

    def _table(self, table: int, count: int) -> Iterator[Pair]:
        view = self.view
        for name, name_size, value, size in struct.iter_unpack("<4I", view[table : table + 16 * count]):
            yield view[name : name + name_size].tobytes(), view[value : value + size].tobytes()

    def _pull_body(self, context: HttpContext, side: int) -> None:
        body = context.bodies[side]
        if body is not None:
            body[:] = self.changed_body(side)

    def changed_body(self, kind: int) -> memoryview:
        """A body as the plugin left it."""
        _, data, size, _ = BUFFER.unpack_from(self.view, _BUFFERS_AT + _BUFFER_SIZE * kind)
        return self.view[data : data + size]

    def _pull_properties(self, context: Context) -> None:
        table, count = TWO_WORDS.unpack_from(self.view, PLACES["PROPERTY_TABLE"])
        for path, value in self._table(table, count):
            if value[0] == PROPERTY_SET:
                properties.store(context, path, value[1:])

    def _pull_reply(self, context: Context, results: tuple[int, ...]) -> None:
        view = self.view
        status, grpc_status, details, details_size, body, body_size, pairs, pairs_size = results[7:15]
        context.send_local_response(
            status,
            view[details : details + details_size].tobytes().decode(errors="replace"),
            view[body : body + body_size].tobytes(),
            parse(view[pairs : pairs + pairs_size].tobytes()) if pairs_size else [],
            grpc_status - (1 << 32) if grpc_status >> 31 else grpc_status,
        )
        self.vm.stop_iteration = True
