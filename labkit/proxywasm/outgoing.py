"""Where the two directions of an HTTP stream end: the router and the client, each with Envoy's demands on headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.proxywasm.headers import HeaderMap

if TYPE_CHECKING:
    from labkit.proxywasm.stream import HttpStream


class Outgoing:
    """What came out of the chain on one side.

    Attributes:
        headers: None until they passed all plugins.
        body: Everything that passed so far.
        chunks: Sizes of the chunks in which it passed.
        trailers: None when there are none (yet).
        complete: Whether the end passed.
        lost: Why what passed will not reach the other side, if it won't.
    """

    def __init__(self) -> None:
        self.headers: HeaderMap | None = None
        self.body = bytearray()
        self.chunks: list[int] = []
        self.trailers: HeaderMap | None = None
        self.complete = False
        self.lost: str | None = None

    def headers_out(self, headers: HeaderMap, end_of_stream: bool) -> bool:
        """Headers passed; a plugin that held them back may still change them, to no effect."""
        self.headers = headers.copy()
        self.complete = end_of_stream
        return True

    def data_out(self, data: bytearray, end_of_stream: bool) -> None:
        """A chunk passed."""
        self.body += data
        self.chunks.append(len(data))
        data.clear()
        self.complete = self.complete or end_of_stream

    def trailers_out(self, trailers: HeaderMap) -> None:
        """Trailers passed."""
        self.trailers = trailers.copy()
        self.complete = True


class RouterSide(Outgoing):
    """The upstream's side, which needs a method and a path to route by."""

    def __init__(self, stream: HttpStream) -> None:
        super().__init__()
        self.stream = stream

    def headers_out(self, headers: HeaderMap, end_of_stream: bool) -> bool:
        """Headers passed; without a method or a route the stream is answered here."""
        method = headers.get(b":method")
        # Without these Envoy's route table has no answer; it is asked again after headers changed.
        lost_scheme = self.stream.forwarded_proto and not headers.get(b"x-forwarded-proto")
        if (not headers.get(b":path") and method != b"CONNECT") or lost_scheme:
            self.stream.local_reply(404, b"", [], -1, "route_not_found", None)
        elif method is None:
            why = "missing required header: :method"
            details = f"filter_removed_required_request_headers{{{why}}}"
            self.stream.local_reply(503, why.encode(), [], -1, details, None)
        else:
            return super().headers_out(headers, end_of_stream)
        return False


class ClientSide(Outgoing):
    """The client's side, which needs a valid `:status`."""

    def __init__(self, stream: HttpStream) -> None:
        super().__init__()
        self.stream = stream

    def headers_out(self, headers: HeaderMap, end_of_stream: bool) -> bool:
        """Headers passed; without a status the stream is answered here."""
        status = headers.get(b":status")
        if not self.stream.direct and (status is None or not status.isdigit()):
            self.stream.bad_response("missing required header: :status")
            return False
        if status is not None:
            self.stream.info.code = int(status)
            if 100 <= int(status) < 200 or int(status) > 999:
                # Filters go on as if nothing had happened; the codec ends the stream.
                self.lost = self.lost or "protocol_error"
        return super().headers_out(headers, end_of_stream)

    def data_out(self, data: bytearray, end_of_stream: bool) -> None:
        """A chunk passed."""
        self.stream.info.bytes_sent += len(data)
        super().data_out(data, end_of_stream)
