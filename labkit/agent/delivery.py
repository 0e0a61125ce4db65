"""Bringing plugins to one Envoy: each version is fetched, handed over, and only then reported as running.

One `Delivery` belongs to one stream of one Envoy. Every plugin has a task of its own, so a pull that takes its time
holds up nothing else; a newer version takes the place of the one on its way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf.message import DecodeError

from labkit.agent.envoy import EnvoyAdmin, Running
from labkit.agent.envoy_log import EnvoyLog
from labkit.agent.errors import EnvoyRefused, PluginRefused, PullFailed
from labkit.agent.resource import PluginResource, pack
from labkit.agent.served import Served, ServedPlugins
from labkit.agent.store import ModuleStore, StoredModule
from labkit.events import Journal

log = logging.getLogger(__name__)

EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
STAND_IN = "-stand-in"
TRIAL = "-trial"

# How long the first version of a plugin may take before its stand-in lets the listener go on.
_GRACE = {True: 2.0, False: 10.0}
_ANSWER_SECONDS = 180.0
_LONGEST_PAUSE = 30.0

Report = Callable[[str, str, str | None], None]


@dataclass(slots=True)
class _Slot:
    """One plugin on this stream."""

    wanted: PluginResource | None = None
    nonce: str = ""
    outcome: str | None = None
    settled: bool = False
    task: asyncio.Task[None] | None = None
    grace: asyncio.Task[None] | None = None
    handed: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def stop(self) -> None:
        for task in (self.task, self.grace):
            if task:
                task.cancel()


class Delivery:
    """The plugins of one Envoy stream.

    Args:
        store: Where modules are.
        admin: The same Envoy's admin interface.
        envoy_log: The same Envoy's log.
        journal: Where steps 6 to 10 are written.
        served: What Envoy took last, by name; outlives the stream.
        send: Sends a response to Envoy.
        report: Tells the controller about a response: nonce, version, and why it was refused or None.
    """

    def __init__(
        self,
        store: ModuleStore,
        admin: EnvoyAdmin,
        envoy_log: EnvoyLog,
        journal: Journal,
        served: ServedPlugins,
        send: Callable[[DiscoveryResponse], None],
        report: Report,
    ) -> None:
        self._store = store
        self._admin = admin
        self._envoy_log = envoy_log
        self._journal = journal
        self._served = served
        self._send = send
        self._report = report
        self._slots: dict[str, _Slot] = {}
        self._nonces = count(1)
        self._answers: dict[str, tuple[str, asyncio.Future[str | None]]] = {}
        # Envoy answers one response at a time; two on their way could get one answer between them.
        self._turn = asyncio.Lock()

    def close(self) -> None:
        """Stop everything."""
        for slot in self._slots.values():
            slot.stop()

    def from_envoy(self, request: DiscoveryRequest) -> bool:
        """Take Envoy's subscription or answer; return whether the subscription changed."""
        pending = self._answers.pop(request.response_nonce, None)
        if pending and not pending[1].done():
            pending[1].set_result(request.error_detail.message if request.HasField("error_detail") else None)
        names = set(request.resource_names)
        before = set(self._slots)
        for name in before - names:
            self._slots.pop(name).stop()
            self._served.drop(name)
            for _, answer in [entry for entry in self._answers.values() if entry[0] == name]:
                answer.cancel()
        for name in names - before:
            self._slots[name] = _Slot()
        return names != before

    def from_controller(self, response: DiscoveryResponse) -> None:
        """Take versions of plugins from the controller."""
        for body in response.resources:
            try:
                resource = PluginResource.read(body, response.version_info)
            except DecodeError as error:
                self._report(response.nonce, response.version_info, f"Rejected: malformed resource: {error}")
                continue
            slot = self._slots.get(resource.name)
            if slot:
                self._want(slot, resource, response.nonce)

    def _want(self, slot: _Slot, resource: PluginResource, nonce: str) -> None:
        slot.nonce = nonce
        if slot.wanted == resource:  # a controller that came back
            if slot.settled:
                self._report(nonce, resource.version, slot.outcome)
            return
        self._step(6, resource, url=resource.url, version=resource.version, nonce=nonce)
        slot.stop()
        if slot.wanted and slot.wanted.owner != resource.owner:
            # Envoy keeps what a deleted plugin was while connections drain; its successor starts from nothing.
            slot.handed = False
        slot.wanted, slot.outcome, slot.settled = resource, None, False
        slot.task = asyncio.create_task(self._guarded(slot, resource))
        if not slot.handed:
            slot.grace = asyncio.create_task(self._recover_later(slot, resource))

    async def _guarded(self, slot: _Slot, resource: PluginResource) -> None:
        try:
            await self._deliver(slot, resource)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("delivering %s failed", resource.name)
            self._settle(slot, resource, f"Rejected: the agent failed: {error!r}")
            await self._recover(slot, resource)

    async def _deliver(self, slot: _Slot, resource: PluginResource) -> None:
        pause, said = 1.0, ""
        while True:
            try:
                await self._try(slot, resource)
            except PluginRefused as error:
                if str(error) != said:
                    said = str(error)
                    self._step(error.step, resource, error=said, version=resource.version, url=resource.url)
                serving = await self._recover(slot, resource)
                again = _may_heal(resource, error)
                more = "; it is tried again by itself" if again else ""
                if isinstance(error, EnvoyRefused):
                    more = f"; the plugin said: {error.words}" if error.words else "; see the gateway's log"
                self._settle(slot, resource, f"{error.reason}: {error}; {serving}{more}")
                if not again:
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._settle(slot, resource, None)
                return

    async def _try(self, slot: _Slot, resource: PluginResource) -> None:
        if not resource.url:
            await self._hand_over(slot, resource.name, resource.version, resource.as_it_is())
            return
        if not slot.handed:
            await self._first_on_this_stream(slot, resource)
        started = time.monotonic()
        module = await self._store.get(resource)
        if slot.grace:
            slot.grace.cancel()  # from here on it is Envoy that takes its time, and a stand-in would only queue up
        self._fetched(resource, module, time.monotonic() - started)
        final = resource.with_module(module.path)
        started = time.monotonic()
        if resource.fail_open and not await self._already_runs(resource, final):
            trial = resource.with_module(module.path, trial=True)
            await self._hand_over(slot, resource.name, resource.version + TRIAL, trial)
        self._step(
            9,
            resource,
            digest=module.fitted_digest,
            path=str(module.path),
            abi=module.abi,
            fitted=module.fitted,
            module=module.module,
            version=resource.version,
        )
        nonce = await self._hand_over(slot, resource.name, resource.version, final)
        running = await self._confirm(resource, final)
        self._served.put(resource.name, Served(resource.owner, resource.version, final))
        self._step(
            10,
            resource,
            digest=running.file_digest(),
            seconds=time.monotonic() - started,
            version=resource.version,
            version_in_dump=running.version,
            path=str(running.path),
            ack_nonce=nonce,
            stats=dict(await self._admin.wasm_stats()),
        )

    async def _first_on_this_stream(self, slot: _Slot, resource: PluginResource) -> None:
        """An Envoy that has just come gets the last good version at once, if the newest is another one.

        One that is still there may name the newest version although it refused it: then, too, it has to see
        something else first.
        """
        served = self._served.get(resource.name, resource.owner)
        if served and served.version == resource.version:
            return
        running = (await self._admin.running()).get(resource.name)
        if served or (running and running.version in (resource.version, resource.version + TRIAL)):
            await self._recover(slot, resource)

    def _fetched(self, resource: PluginResource, module: StoredModule, seconds: float) -> None:
        self._step(
            7,
            resource,
            digest=module.digest,
            seconds=seconds,
            reference=module.reference,
            layer=module.layer,
            cached=module.cached,
            bytes=module.size,
        )
        self._step(8, resource, digest=module.module, path=str(module.path), layer=module.layer, diff_id=module.diff_id)

    async def _already_runs(self, resource: PluginResource, final: TypedExtensionConfig) -> bool:
        served = self._served.get(resource.name, resource.owner)
        if served is None or served.version != resource.version:
            return False
        running = (await self._admin.running()).get(resource.name)
        return running is not None and _is(running, final)

    async def _hand_over(self, slot: _Slot, name: str, version: str, body: TypedExtensionConfig) -> str:
        """Send one resource to Envoy and wait for its answer; return the nonce of an ACK."""
        nonce = f"agent-{next(self._nonces)}"
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        async with self._turn:
            self._answers[nonce] = (name, answer)
            logged = self._envoy_log.size()
            self._send(DiscoveryResponse(type_url=EXTENSION, version_info=version, nonce=nonce, resources=[pack(body)]))
            try:
                error = await asyncio.wait_for(answer, _ANSWER_SECONDS)
            except TimeoutError:
                error = f"no answer from Envoy within {_ANSWER_SECONDS:.0f} s"
            finally:
                self._answers.pop(nonce, None)
        if error is not None:
            raise EnvoyRefused(error, self._envoy_log.complaints(logged))
        slot.handed = True
        return nonce

    async def _confirm(self, resource: PluginResource, final: TypedExtensionConfig) -> Running:
        """What Envoy says it runs, once that is what it was handed.

        Envoy keeps the version it had when only the version differs, so the configurations are compared.
        """
        running = None
        for attempt in range(6):
            running = (await self._admin.running()).get(resource.name)
            if running and _is(running, final):
                return running
            await asyncio.sleep(0.02 * 2**attempt)
        said = f"version {running.version} from {running.path}" if running else "nothing about it"
        raise EnvoyRefused(f"Envoy took version {resource.version}, but its configuration dump says {said}")

    async def _recover_later(self, slot: _Slot, resource: PluginResource) -> None:
        await asyncio.sleep(_GRACE[resource.fail_open])
        await self._recover(slot, resource)

    async def _recover(self, slot: _Slot, resource: PluginResource) -> str:
        """Give Envoy what it shall run while a version cannot; return what that is, in words.

        The last good version is handed over even when Envoy still runs it: after a refusal its idea of the newest
        version is the refused one, which it would take without looking when it comes again.
        """
        async with slot.lock:
            served = self._served.get(resource.name, resource.owner)
            running = (await self._admin.running()).get(resource.name)
            try:
                if served:
                    await self._hand_over(slot, resource.name, served.version, served.body)
                    return "the version before keeps serving"
                another = self._served.is_of_another(resource.name, resource.owner)
                if running and running.path and not another and not running.version.startswith(resource.version):
                    return "the version before keeps serving"
                stand_in = resource.stand_in()
                # Another stand-in may be there: that of the other strategy, or of the plugin's predecessor.
                if not running or running.body != stand_in:
                    await self._hand_over(slot, resource.name, resource.version + STAND_IN, stand_in)
            except EnvoyRefused as error:
                log.error("%s: Envoy refuses what was to take its place: %s", resource.name, error)
            return "requests pass without it (FAIL_OPEN)" if resource.fail_open else "requests get 503 (FAIL_CLOSE)"

    def _settle(self, slot: _Slot, resource: PluginResource, outcome: str | None) -> None:
        if slot.settled and slot.outcome == outcome:
            return
        slot.settled, slot.outcome = True, outcome
        self._report(slot.nonce, resource.version, outcome)

    def _step(self, step: int, resource: PluginResource, **data: Any) -> None:
        self._journal.record(step, part="agent", plugin=resource.plugin, generation=resource.generation, **data)


def _may_heal(resource: PluginResource, error: PluginRefused) -> bool:
    """Whether the same address may lead to something better later: pushed again, or a registry that came back."""
    if isinstance(error, EnvoyRefused):
        return False
    return isinstance(error, PullFailed) or "@sha256:" not in resource.url


def _is(running: Running, wanted: TypedExtensionConfig) -> bool:
    """Whether two configurations say the same, however their maps are ordered."""
    if running.body is None or running.body.typed_config.type_url != wanted.typed_config.type_url:
        return False
    first, second = Wasm(), Wasm()
    running.body.typed_config.Unpack(first)
    wanted.typed_config.Unpack(second)
    return bool(first == second)
