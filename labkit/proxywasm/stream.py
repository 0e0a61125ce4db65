"""One HTTP stream through a chain of plugins, phase by phase.

stream = plugin.stream()
stream.request_headers([(":method", "GET"), (":path", "/"), (":authority", "example.com")])
stream.upstream.headers      # what would go to the upstream
stream.response_headers([(":status", "200")], end_of_stream=True)
stream.downstream.headers    # what the client gets
stream.close()               # proxy_on_log, proxy_on_done, proxy_on_delete
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.proxywasm import localreply
from labkit.proxywasm.chain import Direction
from labkit.proxywasm.contexts import LogLine
from labkit.proxywasm.enums import Action
from labkit.proxywasm.errors import PluginError, StreamClosed, Trap
from labkit.proxywasm.headers import HeaderInput, HeaderMap, MapKind, Pair, to_pairs
from labkit.proxywasm.http import HttpContext
from labkit.proxywasm.outgoing import ClientSide, Outgoing, RouterSide
from labkit.proxywasm.properties import StreamInfo

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin


class _RequestDirection(Direction):
    stream: HttpStream

    def abort_now(self) -> None:
        self.stream.send_prepared_reply()

    def too_large(self) -> None:
        self.stream.local_reply(413, b"Payload Too Large", [], -1, "request_payload_too_large", None)


class _ResponseDirection(Direction):
    new_trailers_overtake = False
    stream: HttpStream

    def too_large(self) -> None:
        self.stream.response_too_large()

    def resumed_too_early(self) -> None:
        # Envoy sends the headers twice, which no codec takes; filters don't notice.
        self.stream.downstream.lost = "headers_sent_twice"


class HttpStream:
    """A stream; send it the phases in order and look at what comes out.

    Attributes:
        info: Facts about the stream that plugins can ask for.
        upstream: What passed the plugins towards the upstream.
        downstream: What passed them towards the client.
        contexts: One for each plugin, in the order of the request.
        replied_by: The plugin that answered with a local response, if one did.
        reset_reason: Why the stream was reset, if it was.
    """

    def __init__(self, plugins: Sequence[Plugin], info: StreamInfo | None = None) -> None:
        self.plugins = tuple(plugins)
        self.info = info or StreamInfo()
        contexts = [plugin.new_context(self) for plugin in self.plugins]
        self.contexts = [context for context in contexts if context is not None]
        self.upstream: Outgoing = RouterSide(self)
        self.downstream: Outgoing = ClientSide(self)
        limit = min((p.limits.body for p in self.plugins), default=1 << 20)
        request = _RequestDirection([c.request for c in self.contexts], self.upstream, limit=limit)
        response = _ResponseDirection([c.response for c in reversed(self.contexts)], self.downstream, limit=limit)
        request.stream = response.stream = self
        for direction in (request, response):
            for slot in direction.slots:
                slot.filter.slot = slot  # type: ignore[attr-defined]
        self.directions: tuple[Direction, Direction] = (request, response)
        self.route_cleared = False
        self.forwarded_proto = False
        self.direct = False
        self.replied = False
        self.replied_by: HttpContext | None = None
        self.reset_reason: str | None = None
        self.closed = False
        self._prepared: localreply.LocalReply | None = None
        self._failed: set[int] = set()
        self._replied: set[int] = set()

    def request_headers(self, headers: HeaderInput, end_of_stream: bool = False) -> Action:
        """Send the request's headers; names are lower-cased, `host` becomes `:authority`."""
        self._expect(self.directions[0].headers is None, "request headers twice")
        pairs = to_pairs(headers)
        if self.info.protocol in ("HTTP/2", "HTTP/3"):
            pairs = _join_cookies(pairs)
        header_map = HeaderMap(pairs, MapKind.REQUEST)
        self.info.request_headers = header_map
        self.forwarded_proto = header_map.get(b"x-forwarded-proto") is not None
        if self.info.start_time is None and self.plugins:
            self.info.start_time = self.plugins[0].host.clock.time_ns()
        return self._run(0, lambda: self.directions[0].receive_headers(header_map, end_of_stream))

    def request_body(self, data: bytes, end_of_stream: bool = False) -> Action:
        """Send a chunk of the request's body."""
        self._expect_body(0, "request")
        self.info.bytes_received += len(data)
        return self._run(0, lambda: self.directions[0].receive_data(data, end_of_stream))

    def request_trailers(self, trailers: HeaderInput) -> Action:
        """Send the request's trailers."""
        self._expect_body(0, "request")
        header_map = HeaderMap(to_pairs(trailers), MapKind.REQUEST_TRAILERS)
        return self._run(0, lambda: self.directions[0].receive_trailers(header_map))

    def request_metadata(self, metadata: Mapping[str, str]) -> None:
        """Send an HTTP/2 METADATA frame with the request; plugins learn of it, and cannot stop it."""
        self._metadata("proxy_on_request_metadata", self.contexts, metadata)

    def response_metadata(self, metadata: Mapping[str, str]) -> None:
        """Send an HTTP/2 METADATA frame with the response; plugins learn of it, and cannot stop it."""
        self._metadata("proxy_on_response_metadata", self.contexts[::-1], metadata)

    def _metadata(self, callback: str, contexts: Sequence[HttpContext], metadata: Mapping[str, str]) -> None:
        self._expect(True, "")
        for context in contexts:
            if context.created:
                context.enter(callback, len(metadata))

    def response_headers(self, headers: HeaderInput, end_of_stream: bool = False) -> Action:
        """Send the upstream's response headers; they must have `:status`."""
        self._expect(self.directions[1].headers is None, "response headers after a response began")
        header_map = HeaderMap(to_pairs(headers), MapKind.RESPONSE)
        status = header_map.get(b":status") or b""
        self.info.code = int(status) if status.isdigit() else None
        self.info.routed = True
        if self.info.details is None:
            self.info.details = "via_upstream"
        return self._run(1, lambda: self._begin_response(header_map, end_of_stream))

    def response_body(self, data: bytes, end_of_stream: bool = False) -> Action:
        """Send a chunk of the upstream's response."""
        self._expect_body(1, "response")
        return self._run(1, lambda: self._response_data(data, end_of_stream))

    def response_trailers(self, trailers: HeaderInput) -> Action:
        """Send the upstream's trailers."""
        self._expect_body(1, "response")
        header_map = HeaderMap(to_pairs(trailers), MapKind.RESPONSE_TRAILERS)
        self.info.response_trailers = header_map

        def send() -> None:
            self.directions[0].over = True
            self.directions[1].receive_trailers(header_map)

        return self._run(1, send)

    def close(self) -> None:
        """The end: `proxy_on_log` of every plugin, then `proxy_on_done` and `proxy_on_delete` of each."""
        if self.closed:
            return
        self.closed = True
        for direction in self.directions:
            direction.over = True
        self.info.complete = True
        if self.downstream.lost is not None:
            self.downstream = ClientSide(self)
            self.reset_reason = self.reset_reason or "protocol_error"
        for context in self.contexts:
            context.on_log()
        for context in self.contexts:
            context.destroy()

    @property
    def request_paused(self) -> bool:
        """Whether a plugin keeps the request back."""
        return self.replied_by is None and self.directions[0].paused

    @property
    def answered(self) -> bool:
        """Whether the whole response reached the client, or never will."""
        return self.downstream.complete or self.reset_reason is not None

    @property
    def response_paused(self) -> bool:
        """Whether a plugin keeps the response back."""
        return not self.downstream.complete and self.directions[1].paused

    @property
    def logs(self) -> list[LogLine]:
        """What the plugins logged in this stream, oldest first."""
        lines = [line for context in self.contexts for line in context.logs]
        return sorted(lines, key=lambda line: line.time) if len(self.contexts) > 1 else lines

    @property
    def problems(self) -> list[PluginError]:
        """What the plugins did wrong in this stream."""
        return [problem for context in self.contexts for problem in context.problems]

    @property
    def trap(self) -> Trap | None:
        """The trap that ended a plugin in this stream."""
        return next((p for p in self.problems if isinstance(p, Trap)), None)

    def resume(self, context: HttpContext, side: int) -> None:
        """Go on behind a plugin."""
        filter_ = context.response if side else context.request
        self.directions[side].resume(filter_.slot)

    def inject(self, context: HttpContext, data: bytes, end_of_stream: bool) -> None:
        """Send a chunk of the response on behind a plugin."""
        if not self.directions[1].over and self.directions[1].headers is not None:
            self.directions[1].inject(context.response.slot, data, end_of_stream)

    def reset(self, reason: str) -> None:
        """End the stream without (the rest of) a response."""
        if self.reset_reason is None:
            self.reset_reason = reason
            if self.info.details is None:
                self.info.details = reason
            for direction in self.directions:
                direction.over = direction.aborted = True

    def fail(self, context: HttpContext) -> None:
        """A plugin's VM failed and its fail strategy is closed: 503, once."""
        if context.id not in self._failed:
            self._failed.add(context.id)
            self.local_reply(503, b"", [], 14, "wasm_fail_stream", context)

    def local_reply(
        self,
        status: int,
        body: bytes,
        headers: list[Pair],
        grpc_status: int,
        details: str,
        context: HttpContext | None,
    ) -> None:
        """Answer instead of the upstream: through the plugins' response phases, or directly, or by a reset."""
        if context is not None:
            if context.id in self._replied:
                return
            self._replied.add(context.id)
        request, response = self.directions
        if self.reset_reason is not None:
            return
        self.replied_by = self.replied_by or context
        self.info.details = "_".join(details.split())
        if request.calling:
            request.aborted = True
        elif response.calling:
            response.aborted = True
        self.replied = True
        reply = localreply.prepare(status, body, headers, grpc_status, self.info.request_headers)
        if response.headers is None:
            if self._prepared is None:
                self._prepared = reply
                if not request.calling:
                    self.send_prepared_reply()
        elif not response.sent_out:
            self._send_direct(reply)
        else:
            self.reset(self.info.details or "local_reply")

    def stuck(self, problem: PluginError) -> None:
        """End a stream that nothing will continue, as Envoy's stream idle time-out does."""
        if self.contexts:
            self.contexts[0].problems.append(problem)
        if self.directions[1].sent_out:
            self.reset("stream_idle_timeout")
        else:
            status = 504 if self.directions[0].complete else 408
            self.local_reply(status, b"stream timeout", [], -1, "stream_idle_timeout", None)

    def send_prepared_reply(self) -> None:
        """Send the local reply that a filter prepared while it was being called."""
        reply, self._prepared = self._prepared, None
        if reply is None or self.directions[1].headers is not None:
            return
        self._begin_response(reply.headers, not reply.body)
        if reply.body and self.reset_reason is None:
            self._response_data(reply.body, True)

    def bad_response(self, why: str) -> None:
        """The plugins let a response pass that no client can be sent."""
        self.directions[1].sent_out = False
        self.local_reply(502, why.encode(), [], -1, f"filter_removed_required_response_headers{{{why}}}", None)

    def response_too_large(self) -> None:
        """A plugin buffered more of the response than allowed."""
        response = self.directions[1]
        if response.sent_out:
            self.reset("response_payload_too_large")
        else:
            response.aborted = True
            self._send_direct(localreply.prepare(500, b"Internal Server Error", [], -1, self.info.request_headers))

    def _begin_response(self, headers: HeaderMap, end_of_stream: bool) -> None:
        self.info.response_headers = headers
        if end_of_stream:
            self.directions[0].over = True
        self.directions[1].receive_headers(headers, end_of_stream)

    def _response_data(self, data: bytes, end_of_stream: bool) -> None:
        if end_of_stream:
            self.directions[0].over = True
        self.directions[1].receive_data(data, end_of_stream)

    def _send_direct(self, reply: localreply.LocalReply) -> None:
        self.info.response_headers = reply.headers
        self.direct = True
        response = self.directions[1]
        response.over = response.sent_out = True
        self.downstream.headers_out(reply.headers, not reply.body)
        if reply.body:
            self.downstream.data_out(bytearray(reply.body), True)

    def _run(self, side: int, send: object) -> Action:
        send()  # type: ignore[operator]
        return Action.PAUSE if self.directions[side].paused else Action.CONTINUE

    def _expect(self, right: bool, what: str) -> None:
        if self.closed or not right:
            module = self.plugins[0].name if self.plugins else "stream"
            raise StreamClosed("the stream is closed" if self.closed else f"out of order: {what}", module=module)

    def _expect_body(self, side: int, name: str) -> None:
        direction = self.directions[side]
        self._expect(direction.headers is not None, f"{name} body or trailers before its headers")
        self._expect(not direction.complete, f"{name} body or trailers after its end")

    def __enter__(self) -> HttpStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _join_cookies(pairs: list[Pair]) -> list[Pair]:
    """HTTP/2 splits cookies into several headers; Envoy's codec joins them and puts them last."""
    cookies = [value for name, value in pairs if name == b"cookie"]
    if not cookies:
        return pairs
    return [pair for pair in pairs if pair[0] != b"cookie"] + [(b"cookie", b"; ".join(cookies))]
