"""The agent between Envoy and the controller: everything passes untouched, but for the plugins.

One stream of Envoy has one stream to the controller. When the controller goes away, Envoy's stream stays; the
agent asks the next controller for the same things from the versions Envoy has, so that nothing is sent again
without need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from labkit.agent.delivery import EXTENSION, Delivery, Report

log = logging.getLogger(__name__)

_CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.enable_http_proxy", 0),
)
_SERVER = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20))

MakeDelivery = Callable[[Callable[[DiscoveryResponse], None], Report], Delivery]


class Agent(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """Serves Envoy what the controller at `upstream` (`host:port`) says.

    Args:
        upstream: The controller's address.
        make_delivery: Makes what brings plugins to the Envoy of a new stream.
    """

    def __init__(self, upstream: str, make_delivery: MakeDelivery) -> None:
        self._upstream = upstream
        self._make_delivery = make_delivery
        self._server: Any = None

    async def start(self, port: int) -> int:
        """Listen on the loopback interface and return the port (which may be asked for as 0)."""
        self._server = grpc.aio.server(options=_SERVER)
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self._server)
        bound: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """End all streams at once."""
        await self._server.stop(None)

    async def StreamAggregatedResources(
        self, requests: AsyncIterator[DiscoveryRequest], context: Any
    ) -> AsyncIterator[Any]:
        """The one method of the service."""
        log.info("Envoy has connected")
        relay = _Relay(self._make_delivery)
        tasks = [
            asyncio.create_task(relay.read_envoy(requests)),
            asyncio.create_task(relay.keep_connected(self._upstream)),
        ]
        tasks[0].add_done_callback(lambda _: relay.to_envoy.put_nowait(None))
        try:
            while response := await relay.to_envoy.get():
                yield response
        finally:
            log.info("Envoy has disconnected")
            relay.delivery.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Relay:
    """One stream of Envoy."""

    def __init__(self, make_delivery: MakeDelivery) -> None:
        self.to_envoy: asyncio.Queue[DiscoveryResponse | None] = asyncio.Queue()
        self.delivery = make_delivery(self.to_envoy.put_nowait, self._report)
        # The newest request of each type, in the order the types were first asked for.
        self._newest: dict[str, DiscoveryRequest] = {}
        self._to_controller: asyncio.Queue[DiscoveryRequest] | None = None
        self._nonces: dict[str, str] = {}
        self._plugins_version = ""
        self._node: Any = None

    async def read_envoy(self, requests: AsyncIterator[DiscoveryRequest]) -> None:
        """Take Envoy's requests until it leaves."""
        async for request in requests:
            if request.HasField("node"):
                self._node = request.node
            if request.HasField("error_detail"):
                log.warning("Envoy refuses %s: %s", request.type_url, request.error_detail.message)
            if request.type_url == EXTENSION:
                self._subscribe(request)
                continue
            self._newest[request.type_url] = request
            if self._to_controller:
                self._to_controller.put_nowait(self._of_this_stream(request))

    def _subscribe(self, request: DiscoveryRequest) -> None:
        """Plugins: the agent answers the controller itself, when Envoy has really loaded them."""
        first = EXTENSION not in self._newest
        changed = self.delivery.from_envoy(request)
        subscription = DiscoveryRequest(type_url=EXTENSION, resource_names=sorted(request.resource_names))
        self._newest[EXTENSION] = subscription
        if (first or changed) and self._to_controller:
            self._to_controller.put_nowait(self._of_this_stream(subscription))

    def _report(self, nonce: str, version: str, error: str | None) -> None:
        """Answer one of the controller's responses about plugins."""
        answer = DiscoveryRequest(response_nonce=nonce)
        answer.CopyFrom(self._newest[EXTENSION])
        answer.response_nonce = nonce
        if error is None:
            self._plugins_version = version
        else:
            answer.error_detail.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            answer.error_detail.message = error
        answer.version_info = self._plugins_version
        if self._to_controller:
            self._to_controller.put_nowait(answer)

    def _of_this_stream(self, request: DiscoveryRequest) -> DiscoveryRequest:
        """The request without the nonce of a stream to a controller that has gone."""
        if not request.response_nonce or request.response_nonce == self._nonces.get(request.type_url):
            return request
        copy = DiscoveryRequest()
        copy.CopyFrom(request)
        copy.response_nonce = ""
        copy.ClearField("error_detail")
        return copy

    async def keep_connected(self, upstream: str) -> None:
        """Hold a stream to the controller, and a new one whenever it breaks."""
        async with grpc.aio.insecure_channel(upstream, options=_CHANNEL) as channel:
            pause = 0.1
            while True:
                try:
                    await self._converse(ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel))
                    pause = 0.1
                except grpc.aio.AioRpcError as error:
                    log.warning("no controller at %s: %s", upstream, error.details())
                self._to_controller = None
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)

    async def _converse(self, stub: Any) -> None:
        call = stub.StreamAggregatedResources(wait_for_ready=True)
        await call.wait_for_connection()
        log.info("connected to the controller")
        queue: asyncio.Queue[DiscoveryRequest] = asyncio.Queue()
        self._nonces = {}
        for request in self._newest.values():
            queue.put_nowait(self._of_this_stream(request))
        self._to_controller = queue
        writer = asyncio.create_task(self._write(call, queue))
        try:
            async for response in call:
                self._nonces[response.type_url] = response.nonce
                if response.type_url == EXTENSION:
                    self.delivery.from_controller(response)
                else:
                    self.to_envoy.put_nowait(response)
        finally:
            self._to_controller = None
            writer.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await writer
            call.cancel()

    async def _write(self, call: Any, queue: asyncio.Queue[DiscoveryRequest]) -> None:
        first = True
        while True:
            request = await queue.get()
            if first and self._node is not None and not request.HasField("node"):
                named = DiscoveryRequest()
                named.CopyFrom(request)
                named.node.CopyFrom(self._node)
                request = named
            first = False
            await call.write(request)
