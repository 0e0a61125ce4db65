"""A client and a scripted server that speak HTTP/2 frame by frame.

HTTP/2 on both sides of Envoy keeps what HTTP/1.1 would blur: one chunk is one DATA frame, so a plugin's body
callbacks see the same pieces in every run, trailers always pass, and no framing headers come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes
from h2.stream import H2Stream

from .model import Headers, Message

# A plugin may change a body and leave its content-length; what arrives is to be seen all the same.
H2Stream._initialize_content_length = lambda self, headers: None  # type: ignore[method-assign]

WINDOW = 1 << 24
LARGEST_CHUNK = 16_384


@dataclass
class _Stream:
    """What has arrived on one stream so far."""

    headers: Headers = ()
    chunks: list[bytes] = field(default_factory=list)
    trailers: Headers = ()
    started: bool = False

    def message(self) -> Message:
        return Message(self.headers, tuple(chunk for chunk in self.chunks if chunk), self.trailers)


class _Peer(asyncio.Protocol):
    """One end of an HTTP/2 connection: collects messages, hands over those that ended."""

    client_side: bool

    def __init__(self) -> None:
        self._h2 = H2Connection(
            H2Configuration(
                client_side=self.client_side,
                header_encoding=None,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._streams: dict[int, _Stream] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20})
        self._h2.increment_flow_control_window(WINDOW)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self.flush()
            self._transport.close()
            return
        for event in events:
            if isinstance(event, RequestReceived | ResponseReceived):
                stream = self._streams.setdefault(event.stream_id, _Stream())
                stream.headers, stream.started = tuple(event.headers), True
            elif isinstance(event, DataReceived):
                self._streams[event.stream_id].chunks.append(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, TrailersReceived):
                self._streams[event.stream_id].trailers = tuple(event.headers)
            elif isinstance(event, StreamEnded):
                self.ended(event.stream_id, self._streams.pop(event.stream_id), complete=True)
            elif isinstance(event, StreamReset):
                self.ended(event.stream_id, self._streams.pop(event.stream_id, None), complete=False)
            elif isinstance(event, ConnectionTerminated):
                self._transport.close()
        self.flush()

    def flush(self) -> None:
        self._transport.write(self._h2.data_to_send())

    def send(self, stream: int, message: Message) -> None:
        """Send a message, one DATA frame a chunk."""
        last = "trailers" if message.trailers else "chunks" if message.chunks else "headers"
        self._h2.send_headers(stream, list(message.headers), end_stream=last == "headers")
        for index, chunk in enumerate(message.chunks, 1):
            self._h2.send_data(stream, chunk, end_stream=last == "chunks" and index == len(message.chunks))
        if message.trailers:
            self._h2.send_headers(stream, list(message.trailers), end_stream=True)
        self.flush()

    def ended(self, stream: int, received: _Stream | None, *, complete: bool) -> None:
        raise NotImplementedError


class Client(_Peer):
    """Sends requests over one connection that is kept open."""

    client_side = True

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[tuple[Message | None, bool]]] = {}
        self.closed = False

    async def exchange(self, message: Message) -> tuple[Message | None, bool]:
        """The reply, and whether it is complete; no reply when the stream was reset before its headers came."""
        stream = self._h2.get_next_available_stream_id()
        self._waiting[stream] = asyncio.get_running_loop().create_future()
        self.send(stream, message)
        return await self._waiting[stream]

    def ended(self, stream: int, received: _Stream | None, *, complete: bool) -> None:
        waiting = self._waiting.pop(stream, None)
        if waiting and not waiting.done():
            reply = received.message() if received and received.started else None
            waiting.set_result((reply, complete))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for stream in list(self._waiting):
            self.ended(stream, self._streams.pop(stream, None), complete=False)

    def close(self) -> None:
        self._transport.close()


class Server(_Peer):
    """Answers each whole request with what `script` says; None: never."""

    client_side = False

    def __init__(self, script: Callable[[Message], Message | None]) -> None:
        super().__init__()
        self._script = script

    def ended(self, stream: int, received: _Stream | None, *, complete: bool) -> None:
        if not complete or received is None:
            return
        answer = self._script(received.message())
        if answer is None:
            return
        try:
            self.send(stream, answer)
        except (StreamClosedError, ProtocolError):
            self._h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
