"""Load a plugin, send it requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from labkit.proxywasm.cache import ModuleCache
from labkit.proxywasm.contexts import LogLine, PluginContext
from labkit.proxywasm.errors import ConfigRejected, StartFailed
from labkit.proxywasm.headers import HeaderInput
from labkit.proxywasm.host import Host
from labkit.proxywasm.limits import Limits
from labkit.proxywasm.module import Module, ModuleSource
from labkit.proxywasm.properties import PropertyValue, StreamInfo
from labkit.proxywasm.request import Upstream, run_request
from labkit.proxywasm.result import Result
from labkit.proxywasm.stream import HttpStream
from labkit.proxywasm.vm import Vm

Config = str | bytes | Mapping[str, Any] | list[Any] | None
"""A plugin's configuration: text and bytes as they are, anything else as JSON."""


class FailStrategy(Enum):
    """What happens to requests after the plugin's VM failed.

    CLOSED answers 503, OPEN lets them pass without the plugin, RELOAD makes a new VM, at most once a back-off interval,
    and is closed meanwhile.
    """

    CLOSED = "closed"
    OPEN = "open"
    RELOAD = "reload"


def config_bytes(config: Config) -> bytes:
    """A configuration as the plugin gets it."""
    if config is None:
        return b""
    if isinstance(config, bytes):
        return config
    return config.encode() if isinstance(config, str) else json.dumps(config, ensure_ascii=False).encode()


class Plugin:
    """A plugin, loaded and configured.

        plugin = Plugin.load("plugin.wasm", config={"content": "hello"})
        assert plugin.request("GET", "http://example.com/").text == "hello"

    Attributes:
        name: What it is called in logs and errors.
        module: Its module.
        host: What it shares with others.
        context: Its root context, which owns the logs written outside streams.
    """

    def __init__(
        self, module: Module, host: Host, vm: Vm, context: PluginContext, *, name: str, fail: FailStrategy
    ) -> None:
        self.module = module
        self.host = host
        self.vm = vm
        self.context = context
        self.name = name
        self.fail = fail

    @classmethod
    def load(
        cls,
        source: ModuleSource | Module,
        *,
        config: Config = None,
        vm_config: Config = None,
        env: Mapping[str, str] | None = None,
        vm_id: str = "",
        root_id: str = "",
        name: str | None = None,
        limits: Limits | None = None,
        host: Host | None = None,
        fail: FailStrategy | str = FailStrategy.CLOSED,
        cache: ModuleCache | None = None,
    ) -> Plugin:
        """Load a module, start it and configure it.

        Args:
            source: Path of a `.wasm` or `.wat` file, its bytes, `oci://registry/image:tag`, or a loaded `Module`.
            config: The plugin's configuration.
            vm_config: The VM's configuration.
            env: Environment variables of the VM; the machine's own are never passed.
            vm_id: Plugins with the same one share data and queues.
            root_id: Which plugin of the module, when it has several.
            name: What to call it; the file's name by default.
            limits: What it may use.
            host: What it shares with other plugins; one of its own by default.
            fail: What happens to requests after it trapped.
            cache: Where compiled modules are kept.

        Raises:
            PluginError: The module is no plugin, did not start, or rejected its configuration.
        """
        limits = limits or Limits()
        module = source if isinstance(source, Module) else Module.load(source, limits=limits, cache=cache)
        host = host or Host()
        vm_bytes = config_bytes(vm_config)
        key = (vm_id, vm_bytes, module.digest)
        vm = host.vms.get(key)
        fresh = vm is None or vm.failure is not None
        if vm is None or fresh:
            vm = Vm(module, host, limits, vm_id=vm_id, vm_configuration=vm_bytes, environment=env)
            vm.start()
        context = PluginContext(vm, name=name or module.name, root_id=root_id)
        plugin = cls(module, host, vm, context, name=name or module.name, fail=FailStrategy(fail))
        plugin._start(config_bytes(config))
        host.vms[key] = vm
        return plugin

    def _start(self, config: bytes) -> None:
        context = self.context
        if not context.start():
            self._raise_failure()
            raise StartFailed(
                "proxy_on_vm_start answered false",
                module=self.name,
                function="proxy_on_vm_start",
                details="\n".join(map(str, context.logs)) or None,
            )
        if not context.configure(config):
            self._raise_failure()
            raise ConfigRejected(
                "proxy_on_configure rejected the configuration",
                module=self.name,
                logs=[str(line) for line in context.logs],
            )

    def _raise_failure(self) -> None:
        if self.vm.failure is not None:
            raise self.vm.failure

    @property
    def limits(self) -> Limits:
        """What it may use."""
        return self.vm.limits

    @property
    def fail_open(self) -> bool:
        """Whether requests pass once its VM failed."""
        return self.fail is FailStrategy.OPEN

    @property
    def logs(self) -> list[LogLine]:
        """What it logged outside streams: while starting, in timers, in call-outs' answers."""
        return self.vm.vm_context.logs + self.context.logs

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
        """Send one request through the plugin to an upstream, and return what the client would get.

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
            timeout: Seconds of the host's clock to wait for call-outs and timers while the plugin pauses.
        """
        info = StreamInfo(properties=dict(properties or {}), route=route, cluster=cluster)
        return run_request([self], info, method, url, headers=headers, body=body, trailers=trailers, upstream=upstream)

    def stream(self, info: StreamInfo | None = None) -> HttpStream:
        """A stream to step through phase by phase."""
        return HttpStream([self], info)

    def close(self) -> None:
        """`proxy_on_done`, and `proxy_on_delete` when the plugin is done."""
        self.context.shutdown()

    def __enter__(self) -> Plugin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"failed: {self.vm.failure.code}" if self.vm.failure else "ready"
        return f"<Plugin {self.name} abi={self.module.version} {state}>"
