"""How headers, body and trailers pass through a chain of filters: Envoy's filter manager, for one direction.

A filter may stop a direction in four ways, and each kind of frame that arrives meanwhile is buffered or kept back
accordingly. The rules are Envoy's to the letter, since plugins depend on them: a filter that stopped after the headers
is not called with data; one that stopped to buffer is called with every further chunk; the buffer of one direction is
one buffer, shared by all its filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Protocol

from labkit.proxywasm.headers import HeaderMap


class HeadersStatus(IntEnum):
    """What a filter answers to headers."""

    CONTINUE = 0
    STOP = 1
    CONTINUE_AND_END_STREAM = 2
    STOP_ALL_AND_BUFFER = 3
    STOP_ALL_AND_WATERMARK = 4


class DataStatus(IntEnum):
    """What a filter answers to a chunk of the body."""

    CONTINUE = 0
    STOP_AND_BUFFER = 1
    STOP_AND_WATERMARK = 2
    STOP_NO_BUFFER = 3


class TrailersStatus(IntEnum):
    """What a filter answers to trailers."""

    CONTINUE = 0
    STOP = 1


class Filter(Protocol):
    """One filter's end of one direction."""

    def on_headers(self, headers: HeaderMap, end_of_stream: bool) -> HeadersStatus:
        """Headers arrived."""

    def on_data(self, data: bytearray, end_of_stream: bool) -> DataStatus:
        """A chunk arrived; `data` may be changed in place."""

    def on_trailers(self, trailers: HeaderMap) -> TrailersStatus:
        """Trailers arrived."""


class Sink(Protocol):
    """Where a direction ends: the router for requests, the client for responses."""

    def headers_out(self, headers: HeaderMap, end_of_stream: bool) -> bool:
        """Headers passed all filters; False when the stream ended because of them."""

    def data_out(self, data: bytearray, end_of_stream: bool) -> None:
        """A chunk passed all filters."""

    def trailers_out(self, trailers: HeaderMap) -> None:
        """Trailers passed all filters."""


class _State(Enum):
    GOING = 0
    STOPPED = 1
    STOPPED_ALL_BUFFERING = 2
    STOPPED_ALL_STREAMING = 3


_AFTER_HEADERS = {
    HeadersStatus.STOP: _State.STOPPED,
    HeadersStatus.STOP_ALL_AND_BUFFER: _State.STOPPED_ALL_BUFFERING,
    HeadersStatus.STOP_ALL_AND_WATERMARK: _State.STOPPED_ALL_STREAMING,
}


class Slot:
    """A filter's place in a direction."""

    __slots__ = ("end_of_stream", "filter", "from_here", "headers_continued", "index", "state")

    def __init__(self, index: int, filter_: Filter) -> None:
        self.index = index
        self.filter = filter_
        self.state = _State.GOING
        self.headers_continued = False
        self.end_of_stream = False
        self.from_here = False

    @property
    def stopped_all(self) -> bool:
        """Whether no frame of any kind gets to this filter."""
        return self.state in (_State.STOPPED_ALL_BUFFERING, _State.STOPPED_ALL_STREAMING)


class Direction:
    """One direction of a stream.

    Attributes:
        headers: Set when they arrived.
        trailers: Set when they arrived, or when a filter added some to the last chunk.
        buffered: What filters keep back of the body; None when nothing ever was.
        complete: Whether the source sent everything.
        aborted: Set by a local reply: the filter under way is the last one to be called.
        calling: Whether a filter is being called.
        over: Set when frames don't matter any more.
        new_trailers_overtake: Whether trailers that a filter makes pass the last chunk that it holds back: in Envoy
            they do in requests.
    """

    new_trailers_overtake = True

    def __init__(self, filters: Sequence[Filter], sink: Sink, *, limit: int) -> None:
        self.slots = [Slot(index, filter_) for index, filter_ in enumerate(filters)]
        self.sink = sink
        self.limit = limit
        self.headers: HeaderMap | None = None
        self.trailers: HeaderMap | None = None
        self.buffered: bytearray | None = None
        self.complete = False
        self.aborted = False
        self.calling = False
        self.last_chunk = False
        self.over = False
        self.streaming = False
        self.sent_out = False

    def receive_headers(self, headers: HeaderMap, end_of_stream: bool) -> None:
        """Headers from the source."""
        self.headers = headers
        self.complete = end_of_stream
        self._headers(None, end_of_stream)

    def receive_data(self, data: bytes, end_of_stream: bool) -> None:
        """A chunk from the source."""
        self.complete = self.complete or end_of_stream
        self._data(None, bytearray(data), end_of_stream)

    def receive_trailers(self, trailers: HeaderMap) -> None:
        """Trailers from the source."""
        self.complete = True
        self.trailers = trailers
        self._trailers(None)

    @property
    def paused(self) -> bool:
        """Whether a filter keeps this direction back."""
        return any(slot.state is not _State.GOING for slot in self.slots)

    def resume(self, slot: Slot) -> None:
        """Go on behind the filter that stopped (`continueDecoding`, `continueEncoding`)."""
        if self.over:
            return
        if slot.state is _State.GOING:
            if self.calling and not slot.headers_continued:
                self.resumed_too_early()
            return
        # Only ever set here: when a filter goes on while it goes on, Envoy begins at the filter itself again, and
        # loses a body that the filter buffered in between if trailers came.
        slot.from_here = slot.from_here or slot.stopped_all
        slot.state = _State.GOING
        if not slot.headers_continued:
            slot.headers_continued = True
            self._headers(slot, self.complete and self.buffered is None and self.trailers is None)
        had_trailers = self.trailers is not None
        if self.buffered is not None:
            self._data(slot, self.buffered, self.complete and not had_trailers)
        if had_trailers:
            self._trailers(slot)
        slot.from_here = False

    def add_data(self, slot: Slot, data: bytearray) -> None:
        """Move a chunk into the buffer on behalf of a filter (`addDecodedData`)."""
        self.streaming = False
        self._buffer(data)

    def inject(self, slot: Slot, data: bytes, end_of_stream: bool) -> None:
        """Send a chunk to the filters behind this one, whatever state it is in."""
        if not slot.headers_continued:
            slot.headers_continued = True
            self._headers(slot, False)
        self._data(slot, bytearray(data), end_of_stream)

    def add_trailers(self, trailers: HeaderMap) -> HeaderMap:
        """Begin trailers during the last chunk."""
        self.trailers = trailers
        return trailers

    def _start(self, slot: Slot | None, *, from_current: bool) -> int:
        if slot is None:
            return 0
        return slot.index if from_current and slot.from_here else slot.index + 1

    def _headers(self, slot: Slot | None, end_of_stream: bool) -> None:
        assert self.headers is not None
        body_added_by: Slot | None = None
        for current in self.slots[self._start(slot, from_current=False) :]:
            current.end_of_stream = end_of_stream and body_added_by is None
            self.calling = True
            status = current.filter.on_headers(self.headers, current.end_of_stream)
            self.calling = False
            if self.aborted:
                self.abort_now()
                current.state = _State.STOPPED
                return
            if status in _AFTER_HEADERS:
                current.state = _AFTER_HEADERS[status]
                self._continue_added(body_added_by)
                return
            current.headers_continued = True
            if end_of_stream and self.buffered is not None and body_added_by is None:
                body_added_by = current
        ends = end_of_stream and body_added_by is None
        self.sent_out = True
        if not self.sink.headers_out(self.headers, ends):
            return
        self._continue_added(body_added_by)

    def _continue_added(self, slot: Slot | None) -> None:
        """A filter added a body to a stream of headers only: send it on."""
        if slot is not None:
            slot.state = _State.STOPPED
            self.resume(slot)

    def _data(self, slot: Slot | None, data: bytearray, end_of_stream: bool) -> None:
        if self.over:
            return
        had_trailers = self.trailers is not None
        trailers_added_by: Slot | None = None
        for current in self.slots[self._start(slot, from_current=True) :]:
            if current.stopped_all:
                self.streaming = current.state is _State.STOPPED_ALL_STREAMING
                self._buffer(data)
                return
            # The stream ended for this filter and those behind it already: this chunk is not theirs.
            if current.end_of_stream:
                return
            self.last_chunk = end_of_stream
            self.calling = True
            current.end_of_stream = end_of_stream and self.trailers is None
            status = current.filter.on_data(data, current.end_of_stream)
            self.calling = False
            self.last_chunk = False
            if self.aborted:
                self.abort_now()
                return
            if not had_trailers and self.trailers is not None and trailers_added_by is None:
                end_of_stream = False
                trailers_added_by = current
            if not self._after_data(current, status, data):
                if trailers_added_by is not None and self.new_trailers_overtake:
                    self._trailers(trailers_added_by)
                return
        self.sink.data_out(data, end_of_stream)
        if data is self.buffered:
            self.buffered = None
        if trailers_added_by is not None:
            self._trailers(trailers_added_by)

    def _after_data(self, slot: Slot, status: DataStatus, data: bytearray) -> bool:
        if status is DataStatus.CONTINUE:
            if slot.state is _State.STOPPED:
                self._buffer(data)
                self.resume(slot)
                return False
            return True
        slot.state = _State.STOPPED
        if status is not DataStatus.STOP_NO_BUFFER:
            self.streaming = status is DataStatus.STOP_AND_WATERMARK
            self._buffer(data)
        elif self.complete and self.trailers is None and self.buffered is None:
            # Resuming later must send an empty last chunk.
            self.buffered = bytearray()
        return False

    def _buffer(self, data: bytearray) -> None:
        if data is self.buffered:
            return
        if self.buffered is None:
            self.buffered = bytearray()
        self.buffered += data
        data.clear()
        if len(self.buffered) > self.limit and not self.streaming:
            self.too_large()

    def _trailers(self, slot: Slot | None) -> None:
        if self.over:
            return
        assert self.trailers is not None
        for current in self.slots[self._start(slot, from_current=True) :]:
            if current.stopped_all:
                return
            self.calling = True
            status = current.filter.on_trailers(self.trailers)
            self.calling = False
            current.end_of_stream = True
            if self.aborted:
                self.abort_now()
                return
            if status is TrailersStatus.STOP:
                if current.state is _State.GOING:
                    current.state = _State.STOPPED
                return
            if current.state is _State.STOPPED:
                self.resume(current)
                return
        self.sink.trailers_out(self.trailers)

    def abort_now(self) -> None:
        """A local reply was sent while a filter was called: the stream sends it now."""

    def resumed_too_early(self) -> None:
        """A filter asked to go on while it was called with the headers, and did not stop."""

    def too_large(self) -> None:
        """The buffer grew beyond its limit."""
