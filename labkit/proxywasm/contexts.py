"""Contexts: on whose behalf the plugin runs, and whose state its host calls see.

There are three kinds, as in the ABI: the VM's own (id 0), one for each plugin configuration (a "root" context), and one
for each stream. A stream's context lives in `labkit.proxywasm.http` and `labkit.proxywasm.tcp`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.proxywasm.callouts import Callouts
from labkit.proxywasm.enums import BufferType, LogLevel, MapType, Status, StreamType
from labkit.proxywasm.errors import PluginError, Trap
from labkit.proxywasm.headers import HeaderMap, Pair

if TYPE_CHECKING:
    from labkit.proxywasm.properties import StreamInfo
    from labkit.proxywasm.vm import Vm


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a plugin logged.

    Attributes:
        level: Severity.
        message: The text; what was no UTF-8 is replaced.
        context: Id of the context that was running; 0 for the VM's own.
        time: Nanoseconds of the host's clock since 1970.
    """

    level: LogLevel
    message: str
    context: int
    time: int

    def __str__(self) -> str:
        return f"[{self.level.name.lower()}] {self.message}"


class Context:
    """What all contexts have: an id, logs, and maps and buffers, which most of them don't have."""

    def __init__(self, vm: Vm, context_id: int, parent: Context | None) -> None:
        self.vm = vm
        self.id = context_id
        self.parent = parent
        self.created = False
        # Envoy's "call data" is whatever buffer of this context was looked at last.
        self.last_buffer: bytes | bytearray = b""
        self.logs: list[LogLine] = []
        self.problems: list[PluginError] = []
        self.logs_dropped = 0
        vm.contexts[context_id] = self

    @property
    def root(self) -> Context:
        """The plugin context that this one belongs to; the VM's own context is its own root."""
        context = self
        while context.parent is not None:
            context = context.parent
        return context

    @property
    def info(self) -> StreamInfo | None:
        """Facts about the stream, when this is a stream's context."""
        return None

    def map(self, kind: int) -> HeaderMap | None:
        """A header map for reading."""
        if kind > MapType.RESPONSE_TRAILERS:
            root = self.root
            return root.call_maps.get(kind) if isinstance(root, PluginContext) else None
        return None

    def attribute_map(self, kind: int) -> HeaderMap | None:
        """A header map as properties show it."""
        return self.map(kind)

    def mutable_map(self, kind: int) -> HeaderMap | None:
        """A header map for changing; those of call-outs cannot be."""
        return None

    def map_missing(self) -> Status:
        """What a read of a map that is not there answers."""
        return Status.BAD_ARGUMENT

    def request_headers_changed(self) -> None:
        """The plugin changed request headers: the route chosen by them no longer counts."""

    def buffer(self, kind: int) -> bytes | bytearray | None:
        """A buffer: `bytearray` when it can be changed; None when there is none of this kind now."""
        if kind == BufferType.CALL_DATA:
            return self.last_buffer
        found = self.find_buffer(kind)
        if found is not None:
            self.last_buffer = found
        return found

    def find_buffer(self, kind: int) -> bytes | bytearray | None:
        """A buffer, without remembering that it was looked at."""
        if kind == BufferType.VM_CONFIGURATION:
            return self.vm.vm_configuration
        root = self.root
        return root.call_buffers.get(kind) if isinstance(root, PluginContext) else None

    def configuration(self) -> bytes:
        """What ABI 0.1.0's `proxy_get_configuration` answers."""
        root = self.root
        data = root.call_buffers.get(BufferType.PLUGIN_CONFIGURATION) if isinstance(root, PluginContext) else None
        return self.vm.vm_configuration if data is None else bytes(data)

    def send_local_response(
        self, status: int, details: str, body: bytes, headers: list[Pair], grpc_status: int
    ) -> None:
        """Answer the request instead of the upstream."""

    def continue_stream(self, kind: StreamType) -> Status:
        """Go on with a direction that was paused."""
        return Status.UNIMPLEMENTED if kind is StreamType.UPSTREAM else Status.OK

    def close_stream(self, kind: StreamType) -> Status:
        """Close a direction."""
        return Status.OK

    def inject_encoded_data(self, data: bytes, end_of_stream: bool) -> None:
        """Send data downstream past this plugin (Higress)."""

    def log(self, level: LogLevel, message: str) -> None:
        """Keep a line, unless the host's level is above it or there are too many already."""
        vm = self.vm
        if level < vm.host.log_level:
            return
        if len(self.logs) >= vm.limits.log_lines:
            self.logs_dropped += 1
            return
        line = LogLine(level, message, self.id, vm.host.clock.time_ns())
        self.logs.append(line)
        if vm.host.on_log is not None:
            vm.host.on_log(line)

    def create(self) -> None:
        """Tell the plugin that this context exists, once."""
        if not self.created:
            self.created = True
            self.enter("proxy_on_context_create", self.parent.id if self.parent else 0)

    def enter(self, name: str, *args: int) -> int | None:
        """Call a callback with this context's id in front, then run what it deferred.

        A trap is recorded with the VM and answered None, as a callback that the module does not have is.
        """
        try:
            return self.vm.call(name, self, self.id, *args)
        except Trap as trap:
            self.trapped(trap)
            return None
        finally:
            self.vm.run_deferred()

    def trapped(self, trap: Trap) -> None:
        """Keep the trap with the context's problems, and log it as Envoy does."""
        if trap not in self.problems:
            self.problems.append(trap)
            self.log(LogLevel.CRITICAL, str(trap))

    def delete(self) -> None:
        """Tell the plugin that the context is gone, and forget it."""
        if self.created:
            self.enter("proxy_on_delete")
        self.vm.contexts.pop(self.id, None)


class VmContext(Context):
    """The VM's own context, which owns what happens outside any plugin configuration."""

    def __init__(self, vm: Vm) -> None:
        super().__init__(vm, 0, None)


class PluginContext(Context):
    """One configuration of a plugin in a VM.

    Attributes:
        name: The plugin's name, the property `plugin_name`.
        root_id: Which of the module's plugins it is, the property `plugin_root_id`.
        config: The configuration's bytes.
        call_maps: Header maps of the call-out being answered.
        call_buffers: Body of the call-out being answered, and the configuration while it is handed over.
        status: Code and message of the last call-out that failed.
        tick_period: Milliseconds; 0 for no ticks.
        ticks_set: How often the period was set.
    """

    def __init__(self, vm: Vm, *, name: str = "", root_id: str = "", config: bytes = b"") -> None:
        super().__init__(vm, vm.allocate_context_id(), None)
        self.name = name
        self.root_id = root_id
        self.config = config
        self.call_maps: dict[int, HeaderMap] = {}
        self.call_buffers: dict[int, bytes] = {}
        self.status: tuple[int, str] = (0, "")
        self.callouts = Callouts(self)
        self.tick_period = 0
        self.ticks_set = 0
        self.done_pending = False
        self.done = False

    def start(self) -> bool:
        """`proxy_on_context_create` and `proxy_on_vm_start`; whether the plugin agreed."""
        self.create()
        return self._agrees("proxy_on_vm_start", len(self.vm.vm_configuration))

    def configure(self, config: bytes) -> bool:
        """`proxy_on_configure`; whether the plugin accepted the configuration."""
        self.create()
        self.config = config
        with self.handing_over(config):
            return self._agrees("proxy_on_configure", len(config))

    @contextlib.contextmanager
    def handing_over(self, config: bytes) -> Iterator[None]:
        """The configuration can be read inside the `with` block only."""
        self.call_buffers[BufferType.PLUGIN_CONFIGURATION] = config
        try:
            yield
        finally:
            self.call_buffers.pop(BufferType.PLUGIN_CONFIGURATION, None)

    def _agrees(self, name: str, size: int) -> bool:
        answer = self.enter(name, size)
        return self.vm.failure is None and answer != 0

    def shutdown(self) -> None:
        """`proxy_on_done`, and `proxy_on_delete` at once or when the plugin says `proxy_done`."""
        if self.done or self.done_pending:
            return
        if self.enter("proxy_on_done") == 0:
            self.done_pending = True
        else:
            self.finish()

    def finish(self) -> None:
        """The end of a shutdown that may have been deferred."""
        self.done_pending = False
        self.done = True
        self.tick_period = 0
        self.callouts.calls.clear()
        self.delete()
