"""The bare walk: create, request headers, request body, log, done, delete, in one turn and nothing else."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from labkit.proxywasm._fast.layout import PLACES
from labkit.proxywasm._fast.prepared import PreparedRequest
from labkit.proxywasm._fast.walk import Image, Walk, last_steps
from labkit.proxywasm.headers import HeaderInput, serialize, to_pairs

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

_REPLY: Final = struct.Struct("<7I")
_REPLY_AT: Final = PLACES["REPLY_STATUS"]


class BareRequest:
    """What test hosts such as proxytest do with a request: the callbacks one after the other, whatever they answer.

    There is no filter chain here and no upstream; it is the floor under `Plugin.request`.
    """

    def __init__(
        self, plugin: Plugin, *, headers: HeaderInput, body: bytes = b"", route: str = "", cluster: str = ""
    ) -> None:
        # The first requests show what the plugin asks for.
        self._prepared = prepared = PreparedRequest(plugin, to_pairs(headers), body, route, cluster)
        self._fast = fast = prepared.fast
        for _ in range(2):
            self._settle(plugin, to_pairs(headers), body, prepared)
        steps = [replace(step, watches=0, expected=0xFFFFFFFF) for step in prepared.steps]
        self._steps = (*steps, *last_steps(prepared.has))
        bodies = [(0, body)] if body else []
        self._image = Image(fast, [(0, serialize(prepared.pairs))], bodies, prepared.properties(), self._steps)

        self._walk = Walk(fast, plugin.context, prepared.new_stream, self._steps, {}, {})
        self._lock = plugin.vm.lock

    @staticmethod
    def _settle(plugin: Plugin, pairs: list[tuple[bytes, bytes]], body: bytes, prepared: PreparedRequest) -> None:
        with prepared.new_stream() as stream:
            stream.request_headers(pairs, end_of_stream=not body)
            if body and not stream.directions[0].over:
                stream.request_body(body, end_of_stream=True)

    def run(self) -> tuple[int, bytes] | None:
        """One request; status and body of the local reply, if the plugin sent one.

        Raises:
            Trap: The plugin trapped.
        """
        fast, walk = self._fast, self._walk
        with self._lock:
            done = walk.start(self._image)
            if not walk.usable:
                self._explain(walk, done)
            status, _, _, _, body, size, _ = _REPLY.unpack_from(fast.view, _REPLY_AT)
            return (status, fast.view[body : body + size].tobytes()) if status else None

    def _explain(self, walk: Walk, done: int) -> None:
        if walk.broken:
            walk.fast.vm.fail_call(f"proxy_{self._steps[done].name}", walk.trap, walk.error)
        raise RuntimeError("the plugin asked for something that a bare walk does not have")
