"""The embedded host, driven frame by frame as Envoy is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from labkit.proxywasm import (
    FailStrategy,
    FakeClock,
    Host,
    HttpStream,
    LogLevel,
    LogLine,
    Plugin,
    Request,
    Response,
    StreamInfo,
)
from labkit.proxywasm.stream import Outgoing

from .model import Case, Headers, Message, Outcome, tag
from .plugins import Plugin as Source

LOG_LINE = re.compile(r"(case-\d+) (.*)", re.DOTALL)
POLICIES = {
    "FAIL_CLOSED": FailStrategy.CLOSED,
    "FAIL_OPEN": FailStrategy.OPEN,
    "FAIL_RELOAD": FailStrategy.RELOAD,
}


class Embedded:
    """All plugins in one host, as Envoy has them in one worker.

    With `fast` the host answers hot calls inside Wasm, otherwise all of them in Python.
    """

    def __init__(self, sources: Iterable[tuple[Source, Path]], *, fast: bool) -> None:
        self._lines: dict[str, list[str]] = {}
        self._callouts: list[Message] = []
        self._case: Case | None = None
        self.host = Host(
            clock=FakeClock(),
            log_level=LogLevel.WARN,
            on_log=self._logged,
            clusters={"callout": self._callout, "refused": _refuse},
            fast=fast,
        )
        self.plugins = {
            source.name: Plugin.load(
                path,
                name=source.name,
                root_id=source.name,
                vm_id=source.name,
                config=source.configuration,
                fail=POLICIES[source.policy],
                host=self.host,
            )
            for source, path in sources
        }

    def run(self, case: Case, number: str) -> Outcome:
        """Send one case through the embedded host; `number` is like no other case's."""
        request = tag(case.request, number)
        self._case = case
        self._callouts.clear()
        stream = self.plugins[case.plugin].stream(StreamInfo(route="lab-route", cluster="upstream", protocol="HTTP/2"))
        _send_request(stream, request)
        self._settle(stream)
        forwarded = _message(stream.upstream) if stream.upstream.complete else None
        if forwarded is not None and stream.directions[1].headers is None and stream.reset_reason is None:
            _send_response(stream, case.upstream)
            self._settle(stream)
        stream.close()
        # What a stream asked for just before it ended is asked all the same.
        self.host.advance(0)
        lost = stream.downstream.lost is not None
        return Outcome(
            reply=None if lost else _message(stream.downstream),
            complete=stream.downstream.complete and not lost,
            forwarded=forwarded,
            callouts=tuple(self._callouts),
            log=tuple(self._lines.pop(number, ())),
        )

    def _settle(self, stream: HttpStream) -> None:
        """Let timers fire and call-outs be answered until the stream goes on, ends, or the upstream can answer."""
        for _ in range(100):
            waits = (stream.request_paused or stream.response_paused) and not stream.downstream.complete
            answerable = stream.upstream.complete and stream.directions[1].headers is None
            if not waits or answerable or stream.reset_reason is not None:
                return
            self.host.advance(0.01)

    def _callout(self, request: Request) -> Response | None:
        self._callouts.append(Message(_bytes(request.headers), (request.body,) if request.body else ()))
        answer = self._case.callout if self._case else None
        if answer is None:
            return None
        status, *headers = _text(answer.headers)
        # What the router behind Envoy's call-outs adds to every answer.
        headers.append(("x-envoy-upstream-service-time", "0"))
        return Response(int(status[1]), headers, answer.body, _text(answer.trailers) or None)

    def _logged(self, line: LogLine) -> None:
        if found := LOG_LINE.fullmatch(line.message):
            self._lines.setdefault(found[1], []).append(found[2])


def _refuse(request: Request) -> Response:
    raise ConnectionRefusedError(request.cluster)


def _bytes(headers: Iterable[tuple[str, str]]) -> Headers:
    return tuple((key.encode("latin-1"), value.encode(errors="surrogateescape")) for key, value in headers)


def _text(headers: Headers) -> list[tuple[str, str]]:
    return [(key.decode("latin-1"), value.decode(errors="surrogateescape")) for key, value in headers]


def _send_request(stream: HttpStream, message: Message) -> None:
    stream.request_headers(message.headers, end_of_stream=not message.chunks and not message.trailers)
    for last, chunk in _marked(message):
        if stream.directions[0].over:
            return
        stream.request_body(chunk, end_of_stream=last)
    if message.trailers and not stream.directions[0].over:
        stream.request_trailers(message.trailers)


def _send_response(stream: HttpStream, message: Message) -> None:
    stream.response_headers(message.headers, end_of_stream=not message.chunks and not message.trailers)
    for last, chunk in _marked(message):
        if stream.reset_reason is not None or stream.directions[1].over:
            return
        stream.response_body(chunk, end_of_stream=last)
    if message.trailers and stream.reset_reason is None and not stream.directions[1].over:
        stream.response_trailers(message.trailers)


def _marked(message: Message) -> list[tuple[bool, bytes]]:
    final = len(message.chunks) if not message.trailers else 0
    return [(index == final, chunk) for index, chunk in enumerate(message.chunks, 1)]


def _message(outgoing: Outgoing) -> Message | None:
    if outgoing.headers is None:
        return None
    body = bytes(outgoing.body)
    return Message(_pairs(outgoing.headers), (body,) if body else (), _pairs(outgoing.trailers))


def _pairs(headers: object) -> Headers:
    return () if headers is None else tuple(headers.pairs)  # type: ignore[attr-defined]
