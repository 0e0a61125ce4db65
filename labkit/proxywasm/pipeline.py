"""Several plugins one after the other, as a gateway's filter chain has them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from labkit.proxywasm._fast.prepared import send_ahead
from labkit.proxywasm.headers import HeaderInput, to_bytes
from labkit.proxywasm.properties import PropertyValue, StreamInfo
from labkit.proxywasm.request import Upstream, run_request
from labkit.proxywasm.result import Result
from labkit.proxywasm.stepping import Steps
from labkit.proxywasm.stream import HttpStream
from labkit.proxywasm.tcp import TcpStream
from labkit.proxywasm.trace import Trace

if TYPE_CHECKING:
    from labkit.proxywasm.plugin import Plugin

T = TypeVar("T")


class Chain:
    """Plugins in the order in which a request passes them; a response passes them backwards.

    Attributes:
        plugins: The plugins.
    """

    def __init__(self, *plugins: Plugin) -> None:
        self.plugins: Sequence[Plugin] = plugins

    def request(
        self,
        method: str = "GET",
        url: str = "http://example.com/",
        *,
        headers: HeaderInput | None = None,
        body: bytes | str = b"",
        trailers: HeaderInput | None = None,
        route: str = "",
        cluster: str = "",
        upstream: Upstream | None = None,
        properties: Mapping[str, PropertyValue] | None = None,
        chunk_size: int | None = None,
        timeout: float = 15.0,
    ) -> Result:
        """Send one request through the plugins to an upstream, and return what the client would get.

        Args:
            method: HTTP method.
            url: Absolute, or a path on `example.com`.
            headers: Beside the pseudo-headers that follow from method and URL.
            body: Request body.
            trailers: Request trailers.
            route: Name of the route, the property `route_name`.
            cluster: Name of the cluster, the property `cluster_name`.
            upstream: Who answers: a `Response`, or a callable from `Request` to `Response`; 200 without a body by
                default.
            properties: Values for `proxy_get_property`, by dotted path; they win over what the host knows.
            chunk_size: Bytes of the chunks in which bodies pass; in one chunk by default.
            timeout: Seconds of the host's clock to wait for call-outs and timers while a plugin pauses.
        """
        begun = None
        if len(self.plugins) == 1 and not (trailers or properties or chunk_size):
            outcome = send_ahead(self.plugins[0], method, url, headers, to_bytes(body), route, cluster, upstream)
            if isinstance(outcome, Result):
                return outcome
            begun = outcome
        info = begun.info if begun else StreamInfo(properties=dict(properties or {}), route=route, cluster=cluster)
        return run_request(
            self.plugins,
            info,
            method,
            url,
            headers=headers,
            body=body,
            trailers=trailers,
            upstream=upstream,
            chunk_size=chunk_size,
            timeout=timeout,
            begun=begun,
        )

    def stream(self, info: StreamInfo | None = None) -> HttpStream:
        """A stream to step through phase by phase."""
        return HttpStream(self.plugins, info)

    def tcp(self, info: StreamInfo | None = None) -> TcpStream:
        """A TCP connection; `proxy_on_new_connection` is called at once."""
        return TcpStream(self.plugins, info)

    @contextlib.contextmanager
    def trace(self) -> Iterator[Trace]:
        """Record every call between host and plugins inside the `with` block."""
        trace = Trace()
        previous = [plugin.observe(trace) for plugin in self.plugins]
        try:
            yield trace
        finally:
            for plugin, observer in zip(self.plugins, previous, strict=True):
                plugin.observe(observer)

    def step(self, run: Callable[[], T]) -> Steps[T]:
        """Stop at every call between host and plugins while `run` runs; see `labkit.proxywasm.stepping`."""
        return Steps([plugin.vm for plugin in self.plugins], run)
