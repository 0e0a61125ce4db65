"""A plugin's context for one HTTP stream: the filter that Envoy's Wasm extension is.

What a plugin can see depends on the phase: a map or body is there while its phase runs and as long as the plugin keeps
that direction paused, and gone once it let it pass; `proxy_on_log` sees the headers again, for reading only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.proxywasm.abi import V0_2_100
from labkit.proxywasm.chain import DataStatus, HeadersStatus, Slot, TrailersStatus
from labkit.proxywasm.contexts import Context, PluginContext
from labkit.proxywasm.enums import BufferType, MapType, Status, StreamType
from labkit.proxywasm.errors import Trap
from labkit.proxywasm.headers import HeaderMap, MapKind, Pair
from labkit.proxywasm.properties import StreamInfo

if TYPE_CHECKING:
    from labkit.proxywasm.stream import HttpStream

_NAMES = ("request", "response")
_TRAILERS = (MapKind.REQUEST_TRAILERS, MapKind.RESPONSE_TRAILERS)


class HttpContext(Context):
    """The context of one stream in one plugin.

    Attributes:
        maps: Request headers, request trailers, response headers, response trailers as the plugin may change them
            now; None for those it may not.
        bodies: Request and response body as the plugin may change them now.
    """

    def __init__(self, plugin: PluginContext, stream: HttpStream) -> None:
        super().__init__(plugin.vm, plugin.vm.allocate_context_id(), plugin)
        self.stream = stream
        self.maps: list[HeaderMap | None] = [None, None, None, None]
        self.bodies: list[bytearray | None] = [None, None]
        self.end_of_stream = False
        self.logging = False
        self.reply_held = False
        self.failed = False
        self.request = HttpFilter(self, 0)
        self.response = HttpFilter(self, 1)

    @property
    def info(self) -> StreamInfo:
        """Facts about the stream."""
        return self.stream.info

    @property
    def reset(self) -> bool:
        """Whether the stream was reset, which ends it in Envoy while the callback's maps and body are still there."""
        return self.stream.reset_reason is not None

    def map(self, kind: int) -> HeaderMap | None:
        """A header map for reading."""
        if kind > MapType.RESPONSE_TRAILERS:
            return super().map(kind)
        if not self.logging:
            return self.maps[kind]
        info = self.stream.info
        return (info.request_headers, None, info.response_headers, info.response_trailers)[kind]

    def attribute_map(self, kind: int) -> HeaderMap | None:
        """The map under way even in `proxy_on_log`, where it is the one that a local reply made void."""
        found = self.maps[kind]
        return self.map(kind) if found is None else found

    def mutable_map(self, kind: int) -> HeaderMap | None:
        """A header map for changing; asking for trailers when the whole body is there makes them."""
        if kind > MapType.RESPONSE_TRAILERS:
            return None
        found = self.maps[kind]
        side = kind >> 1
        if found is None and kind & 1 and self.bodies[side] is not None and self.end_of_stream:
            made = HeaderMap((), _TRAILERS[side])
            direction = self.stream.directions[side]
            # Envoy makes them even when it is too late to send them.
            late = self.logging or direction.trailers is not None
            found = self.maps[kind] = made if late else direction.add_trailers(made)
        return found

    def map_missing(self) -> Status:
        """In `proxy_on_log` an absent map has no values; elsewhere it must not be asked for."""
        return Status.NOT_FOUND if self.logging else Status.BAD_ARGUMENT

    def request_headers_changed(self) -> None:
        """The route has to be chosen anew."""
        self.stream.route_cleared = True

    def find_buffer(self, kind: int) -> bytes | bytearray | None:
        """A buffer, without remembering that it was looked at."""
        if kind in (BufferType.HTTP_REQUEST_BODY, BufferType.HTTP_RESPONSE_BODY):
            body = self.bodies[kind]
            if body is not None:
                return body
            # Envoy hands out an empty buffer when there is no body now; changing it fails, unless the plugin was the
            # last to hold back the body.
            return bytearray() if (self.request, self.response)[kind].buffering else b""
        return super().find_buffer(kind)

    def send_local_response(
        self, status: int, details: str, body: bytes, headers: list[Pair], grpc_status: int
    ) -> None:
        """Answer the request from here, once the callback under way has returned."""
        if self.reply_held:
            return
        self.reply_held = True
        self.vm.after_call(lambda: self.stream.local_reply(status, body, headers, grpc_status, details, self))

    def continue_stream(self, kind: StreamType) -> Status:
        """Resume a direction once the callback under way has returned."""
        if kind is StreamType.UPSTREAM:
            return Status.UNIMPLEMENTED
        if kind is StreamType.DOWNSTREAM:
            return Status.OK
        self.vm.after_call(lambda: self.stream.resume(self, int(kind)))
        # Envoy forgets the request's maps and body here, for either direction.
        self.maps[0] = self.maps[1] = None
        self.bodies[0] = None
        return Status.OK

    def close_stream(self, kind: StreamType) -> Status:
        """Reset the stream once the callback under way has returned."""
        if kind in (StreamType.REQUEST, StreamType.RESPONSE):
            self.vm.after_call(lambda: self.stream.reset("wasm_close_stream"))
        return Status.OK

    def inject_encoded_data(self, data: bytes, end_of_stream: bool) -> None:
        """Send a chunk of the response on to the filters behind (Higress)."""
        self.vm.after_call(lambda: self.stream.inject(self, data, end_of_stream))

    def broken(self) -> bool:
        """Whether the VM failed; then the stream is answered 503, whatever the strategy for later streams is."""
        if self.vm.failure is None:
            return False
        if not self.failed:
            self.failed = True
            self.trapped(self.vm.failure)
            self.stream.fail(self)
        return True

    def on_log(self) -> None:
        """The stream is complete: `proxy_on_log`."""
        self.create()
        self.logging = True
        self.enter("proxy_on_log")
        self.logging = False

    def destroy(self) -> None:
        """`proxy_on_done` and `proxy_on_delete`; Envoy does not wait for a stream's deferred done."""
        if self.created:
            self.enter("proxy_on_done")
        self.delete()


class HttpFilter:
    """One direction of an `HttpContext`, as the chain sees it."""

    __slots__ = ("body_callback", "buffering", "context", "headers_callback", "side", "slot", "trailers_callback")

    slot: Slot

    def __init__(self, context: HttpContext, side: int) -> None:
        self.context = context
        self.side = side
        self.buffering = False
        self.headers_callback = f"proxy_on_{_NAMES[side]}_headers"
        self.body_callback = f"proxy_on_{_NAMES[side]}_body"
        self.trailers_callback = f"proxy_on_{_NAMES[side]}_trailers"

    def on_headers(self, headers: HeaderMap, end_of_stream: bool) -> HeadersStatus:
        """Call `proxy_on_…_headers`."""
        context = self.context
        if self.side == 0:
            context.create()
        elif not context.created:
            return HeadersStatus.CONTINUE
        context.maps[2 * self.side] = headers
        context.end_of_stream = end_of_stream
        args = (len(headers), int(end_of_stream))
        # The reply to a stream that failed passes the plugin that failed.
        status = HeadersStatus.CONTINUE if context.failed else HeadersStatus.STOP_ALL_AND_WATERMARK
        if not context.broken():
            # ABI 0.1.0 does not pass the flag.
            function = context.vm.module.callbacks.get(self.headers_callback)
            result = self._call(self.headers_callback, *args[: len(function.params) - 1 if function else 2])
            if not context.broken():
                status = self._headers_status(result)
        if status is HeadersStatus.CONTINUE and not context.reset:
            context.maps[2 * self.side] = None
        return status

    def on_data(self, data: bytearray, end_of_stream: bool) -> DataStatus:
        """Call `proxy_on_…_body`; with what was buffered before, when the plugin asked for that."""
        context = self.context
        if not context.created:
            return DataStatus.CONTINUE
        body = data
        direction = context.stream.directions[self.side]
        if self.buffering:
            direction.add_data(self.slot, data)
            if direction.aborted or direction.over:
                return DataStatus.STOP_NO_BUFFER
            assert direction.buffered is not None
            body = direction.buffered
        context.bodies[self.side] = context.last_buffer = body
        context.end_of_stream = end_of_stream
        status = DataStatus.CONTINUE if context.failed else DataStatus.STOP_NO_BUFFER
        if not context.broken():
            result = self._call(self.body_callback, len(body), int(end_of_stream))
            if not context.broken() and result is not None and result <= DataStatus.STOP_NO_BUFFER:
                status = DataStatus(result)
        self.buffering = status is DataStatus.STOP_AND_BUFFER
        if self.buffering:
            # From here on the plugin sees, and changes, what is buffered.
            direction.add_data(self.slot, data)
            context.bodies[self.side] = direction.buffered
        elif status is DataStatus.CONTINUE and not context.reset:
            context.bodies[self.side] = None
        return status

    def on_trailers(self, trailers: HeaderMap) -> TrailersStatus:
        """Call `proxy_on_…_trailers`."""
        context = self.context
        if not context.created:
            return TrailersStatus.CONTINUE
        index = 2 * self.side + 1
        context.maps[index] = trailers
        status = TrailersStatus.CONTINUE if context.failed else TrailersStatus.STOP
        if not context.broken():
            result = self._call(self.trailers_callback, len(trailers))
            if not context.broken() and result == 0:
                status = TrailersStatus.CONTINUE
        if status is TrailersStatus.CONTINUE and not context.reset:
            context.maps[index] = None
        return status

    def _call(self, name: str, *args: int) -> int | None:
        """The callback's result; 0 without such a callback, None after a local response, which stops every phase."""
        context = self.context
        vm = context.vm
        if name not in vm.module.callbacks:
            return 0
        try:
            result = vm.call(name, context, context.id, *args)
            return None if vm.stop_iteration else result
        except Trap as trap:
            context.trapped(trap)
            return None
        finally:
            vm.run_deferred()

    def _headers_status(self, result: int | None) -> HeadersStatus:
        if result is None or result > HeadersStatus.STOP_ALL_AND_WATERMARK:
            return HeadersStatus.STOP_ALL_AND_WATERMARK
        # Envoy's HTTP filters know no "continue and end the stream"; it continues.
        if result == HeadersStatus.CONTINUE_AND_END_STREAM:
            return HeadersStatus.CONTINUE
        if result == HeadersStatus.STOP and not self._may_stop_headers_alone():
            return HeadersStatus.STOP_ALL_AND_WATERMARK
        return HeadersStatus(result)

    def _may_stop_headers_alone(self) -> bool:
        vm = self.context.vm
        return vm.module.version == V0_2_100 or vm.host.allow_on_headers_stop_iteration
