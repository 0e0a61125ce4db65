"""The gRPC server of the controller: aggregated discovery, one `Session` a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from labkit.controlplane.session import Answer, Session
from labkit.controlplane.snapshot import Snapshot

log = logging.getLogger(__name__)

_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20))


class AdsServer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """Serves the newest published snapshot; streams wait until there is one.

    Args:
        on_answer: Called with every answer of a client.
    """

    def __init__(self, on_answer: Callable[[Answer], None]) -> None:
        self._on_answer = on_answer
        self._snapshot: Snapshot | None = None
        self._wakers: set[asyncio.Event] = set()
        self._server: Any = None

    async def start(self, port: int) -> int:
        """Listen on the loopback interface and return the port (which may be asked for as 0)."""
        self._server = grpc.aio.server(options=_OPTIONS)
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self._server)
        bound: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """End all streams at once."""
        await self._server.stop(None)

    def publish(self, snapshot: Snapshot) -> None:
        """Serve this snapshot from now on."""
        self._snapshot = snapshot
        for waker in self._wakers:
            waker.set()

    async def StreamAggregatedResources(
        self, requests: AsyncIterator[DiscoveryRequest], context: Any
    ) -> AsyncIterator[Any]:
        """The one method of the service."""
        session = Session()
        waker = asyncio.Event()
        self._wakers.add(waker)
        reader = asyncio.create_task(self._read(requests, session, waker))
        reader.add_done_callback(lambda _: waker.set())
        try:
            while not reader.done():
                waker.clear()
                session.snapshot = self._snapshot
                for response in session.pending():
                    log.info(
                        "sending %s version %s (%d)",
                        response.type_url.rpartition(".")[2],
                        response.version_info,
                        len(response.resources),
                    )
                    yield response
                await waker.wait()
        finally:
            self._wakers.discard(waker)
            reader.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reader

    async def _read(self, requests: AsyncIterator[DiscoveryRequest], session: Session, waker: asyncio.Event) -> None:
        async for request in requests:
            answer = session.receive(request)
            if answer:
                if answer.error:
                    log.warning("refused: %s %s: %s", answer.type_url, dict(answer.versions), answer.error)
                self._on_answer(answer)
            waker.set()
