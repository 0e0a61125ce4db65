"""A plugin on a TCP connection: Envoy's network filter.

    with plugin.tcp() as connection:
        connection.downstream(b"hello")      # bytes from the client; what the plugin lets through:
        connection.to_upstream               # bytearray(b"hello")

Data that a plugin keeps back stays in the connection's buffer, and the plugin sees it again, with what came since, at
the next chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.proxywasm.contexts import Context, LogLine, PluginContext
from labkit.proxywasm.enums import Action, BufferType, PeerType, Status, StreamType
from labkit.proxywasm.errors import PluginError, StreamClosed
from labkit.proxywasm.properties import StreamInfo

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

_CALLBACKS = ("proxy_on_downstream_data", "proxy_on_upstream_data")


class TcpContext(Context):
    """The context of one connection in one plugin."""

    def __init__(self, plugin: PluginContext, connection: TcpStream) -> None:
        super().__init__(plugin.vm, plugin.vm.allocate_context_id(), plugin)
        self.connection = connection
        self.data: list[bytearray | None] = [None, None]

    @property
    def info(self) -> StreamInfo:
        """Facts about the connection."""
        return self.connection.info

    def find_buffer(self, kind: int) -> bytes | bytearray | None:
        """A buffer, without remembering that it was looked at."""
        if kind in (BufferType.NETWORK_DOWNSTREAM_DATA, BufferType.NETWORK_UPSTREAM_DATA):
            data = self.data[kind - BufferType.NETWORK_DOWNSTREAM_DATA]
            return b"" if data is None else data
        return super().find_buffer(kind)

    def continue_stream(self, kind: StreamType) -> Status:
        """Let what the client sent go on; the other direction cannot be continued."""
        if kind is StreamType.UPSTREAM:
            return Status.UNIMPLEMENTED
        if kind is StreamType.DOWNSTREAM:
            self.vm.after_call(lambda: self.connection.resume(self))
        return Status.OK

    def close_stream(self, kind: StreamType) -> Status:
        """Close the connection once the callback under way has returned."""
        if kind in (StreamType.DOWNSTREAM, StreamType.UPSTREAM):
            self.vm.after_call(lambda: self.connection.close(PeerType.LOCAL))
        return Status.OK

    def stopped(self, name: str, *args: int) -> bool:
        """Call a callback; whether the plugin wants the chunk kept back."""
        if self.vm.failure is None:
            action = self.enter(name, *args)
            if self.vm.failure is None:
                return bool(action)
        self.trapped(self.vm.failure)
        self.connection.close(PeerType.LOCAL)
        return True


class TcpStream:
    """A connection through a chain of plugins.

    Attributes:
        info: Facts about the connection.
        to_upstream: What passed from the client to the upstream.
        to_downstream: What passed from the upstream to the client.
        closed: Whether it is over, and the plugins know.
    """

    def __init__(self, plugins: Sequence[Plugin], info: StreamInfo | None = None) -> None:
        self.info = info or StreamInfo()
        self.contexts = [TcpContext(plugin.context, self) for plugin in plugins]
        self.to_upstream = bytearray()
        self.to_downstream = bytearray()
        self.closed = False
        self._kept = (bytearray(), bytearray())
        self._upstream_closed = False
        self._started = 0
        for context in self.contexts:
            context.create()
            self._started += 1
            if context.stopped("proxy_on_new_connection"):
                break

    def downstream(self, data: bytes, end_of_stream: bool = False) -> Action:
        """Bytes from the client."""
        return self._receive(0, data, end_of_stream)

    def upstream(self, data: bytes, end_of_stream: bool = False) -> Action:
        """Bytes from the upstream; the end of them closes that side."""
        action = self._receive(1, data, end_of_stream)
        if end_of_stream and not self.closed and not self._upstream_closed:
            self._upstream_closed = True
            for context in self.contexts:
                context.enter("proxy_on_upstream_connection_close", PeerType.UNKNOWN)
        return action

    def _receive(self, side: int, data: bytes, end_of_stream: bool) -> Action:
        if self.closed:
            raise StreamClosed("the connection is closed", module="connection")
        kept = self._kept[side]
        kept += data
        contexts = self.contexts if side == 0 else self.contexts[::-1]
        return self._pass_on(side, contexts, end_of_stream)

    def _pass_on(self, side: int, contexts: Sequence[TcpContext], end_of_stream: bool) -> Action:
        kept = self._kept[side]
        for context in contexts:
            context.data[side] = context.last_buffer = kept
            if context.stopped(_CALLBACKS[side], len(kept), int(end_of_stream)):
                return Action.PAUSE
            context.data[side] = None
        (self.to_upstream, self.to_downstream)[side].extend(kept)
        kept.clear()
        return Action.CONTINUE

    def resume(self, context: TcpContext) -> None:
        """Send on behind this plugin what it kept back."""
        if not self.closed and self._kept[0]:
            self._pass_on(0, self.contexts[self.contexts.index(context) + 1 :], False)

    def close(self, peer: PeerType = PeerType.REMOTE) -> None:
        """The connection ends: `proxy_on_downstream_connection_close`, then done, log and delete."""
        if self.closed:
            return
        self.closed = True
        for context in self.contexts[: self._started]:
            context.enter("proxy_on_downstream_connection_close", peer)
            context.enter("proxy_on_done")
            context.enter("proxy_on_log")
        for context in self.contexts:
            context.delete()

    @property
    def logs(self) -> list[LogLine]:
        """What the plugins logged on this connection, oldest first."""
        return sorted((line for context in self.contexts for line in context.logs), key=lambda line: line.time)

    @property
    def problems(self) -> list[PluginError]:
        """What the plugins did wrong on this connection."""
        return [problem for context in self.contexts for problem in context.problems]

    def __enter__(self) -> TcpStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
