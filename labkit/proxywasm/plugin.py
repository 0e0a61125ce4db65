"""Load a plugin, send it requests."""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from labkit.proxywasm.cache import ModuleCache
from labkit.proxywasm.contexts import Context, LogLine, PluginContext
from labkit.proxywasm.enums import LogLevel
from labkit.proxywasm.errors import ConfigRejected, PluginError, StartFailed, StreamClosed, Trap
from labkit.proxywasm.host import Host
from labkit.proxywasm.http import HttpContext
from labkit.proxywasm.limits import Limits
from labkit.proxywasm.module import Module, ModuleSource
from labkit.proxywasm.pipeline import Chain
from labkit.proxywasm.stream import HttpStream
from labkit.proxywasm.vm import Observer, Vm

T = TypeVar("T")
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


@dataclass(frozen=True)
class _Settings:
    """What a plugin was loaded with, so that it can be loaded again."""

    name: str
    root_id: str
    config: bytes
    vm_config: bytes
    vm_id: str
    environment: dict[str, str]
    arguments: tuple[str, ...]
    limits: Limits


class Plugin(Chain):
    """A plugin, loaded and configured; by itself it is a chain of one.

        plugin = Plugin.load("plugin.wasm", config={"content": "hello"})
        assert plugin.request("GET", "http://example.com/").text == "hello"

    Attributes:
        name: What it is called in logs and errors.
        module: Its module.
        host: What it shares with others.
        vm: The instance that it runs in; a new one after a reload.
        context: Its root context, which owns the logs written outside streams.
    """

    vm: Vm
    context: PluginContext

    def __init__(
        self, module: Module, host: Host, settings: _Settings, *, fail: FailStrategy, reload_backoff: float
    ) -> None:
        super().__init__(self)
        self.module = module
        self.host = host
        self.name = settings.name
        self.fail = fail
        self.reload_backoff = reload_backoff
        self._settings = settings
        self._started_at = 0
        self._observer: Observer | None = None

    @classmethod
    def load(
        cls,
        source: ModuleSource | Module,
        *,
        config: Config = None,
        vm_config: Config = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        vm_id: str = "",
        root_id: str = "",
        name: str | None = None,
        limits: Limits | None = None,
        host: Host | None = None,
        fail: FailStrategy | str = FailStrategy.CLOSED,
        reload_backoff: float = 1.0,
        cache: ModuleCache | None = None,
    ) -> Plugin:
        """Load a module, start it and configure it.

        Args:
            source: Path of a `.wasm` or `.wat` file, its bytes, `oci://registry/image:tag`, or a loaded `Module`.
            config: The plugin's configuration.
            vm_config: The VM's configuration.
            env: Environment variables of the VM; the machine's own are never passed.
            args: WASI arguments of the VM; none in Envoy.
            vm_id: Plugins with the same one share data and queues.
            root_id: Which plugin of the module, when it has several.
            name: What to call it; the file's name by default.
            limits: What it may use.
            host: What it shares with other plugins; one of its own by default.
            fail: What happens to requests after it trapped.
            reload_backoff: Seconds between two reloads.
            cache: Where compiled modules are kept.

        Raises:
            PluginError: The module is no plugin, did not start, or rejected its configuration.
        """
        limits = limits or Limits()
        module = source if isinstance(source, Module) else Module.load(source, limits=limits, cache=cache)
        settings = _Settings(
            name=name or module.name,
            root_id=root_id,
            config=config_bytes(config),
            vm_config=config_bytes(vm_config),
            vm_id=vm_id,
            environment=dict(env or {}),
            arguments=tuple(args),
            limits=limits,
        )
        host = host or Host()
        plugin = cls(module, host, settings, fail=FailStrategy(fail), reload_backoff=reload_backoff)
        plugin._start()
        return plugin

    def _start(self) -> None:
        """Make or join the VM, start and configure this plugin in it."""
        settings = self._settings
        key = (settings.vm_id, settings.vm_config, self.module.digest)
        vm = self.host.vms.get(key)
        if vm is None or vm.failure is not None:
            vm = Vm(
                self.module,
                self.host,
                settings.limits,
                vm_id=settings.vm_id,
                vm_configuration=settings.vm_config,
                environment=settings.environment,
                arguments=settings.arguments,
            )
            with contextlib.suppress(Trap):
                vm.start()
            self._raise_trap(vm.vm_context)
        context = PluginContext(vm, name=settings.name, root_id=settings.root_id)
        vm.observer = self._observer
        try:
            self._agree(context, settings.config)
        except PluginError:
            vm.contexts.pop(context.id, None)
            raise
        self.host.vms[key] = vm
        self.vm, self.context = vm, context
        self._started_at = self.host.clock.monotonic_ns()

    def _agree(self, context: PluginContext, config: bytes) -> None:
        """Ask the plugin whether it can start with this configuration."""
        started = context.start()
        self._raise_trap(context)
        if not started:
            details = "\n".join(map(str, context.logs)) or None
            name = "proxy_on_vm_start"
            raise StartFailed(f"{name} answered false", module=self.name, function=name, details=details)
        accepted = context.configure(config)
        self._raise_trap(context)
        if not accepted:
            logs = [str(line) for line in context.logs]
            raise ConfigRejected("proxy_on_configure rejected the configuration", module=self.name, logs=logs)

    def _raise_trap(self, context: Context) -> None:
        trap = context.vm.failure
        if trap is not None:
            lines = [str(line) for line in context.vm.vm_context.logs + context.logs if line.level < LogLevel.CRITICAL]
            lines += [f"  {frame}" for frame in trap.frames]
            raise StartFailed(
                f"did not start: {trap.callback} trapped: {trap.code}",
                module=self.name,
                function=trap.callback,
                details="\n".join(lines) or None,
            ) from trap

    def new_context(self, stream: HttpStream) -> HttpContext | None:
        """A context for a new stream; None when the plugin failed and its strategy is to let streams pass."""
        if self.context.done or self.context.done_pending:
            raise StreamClosed("the plugin is closed", module=self.name)
        if self.vm.failure is not None:
            if self.fail is FailStrategy.OPEN:
                return None
            if self.fail is FailStrategy.RELOAD:
                self._reload()
        return HttpContext(self.context, stream)

    def _reload(self) -> None:
        """Make a new VM, unless the last one is younger than the back-off."""
        now = self.host.clock.monotonic_ns()
        if now - self._started_at < self.reload_backoff * 1e9:
            return
        self._started_at = now
        # A plugin that cannot be started again keeps failing.
        with contextlib.suppress(PluginError):
            self._start()

    def restart(self) -> None:
        """Make a new VM now, whatever the strategy.

        Raises:
            PluginError: It did not start.
        """
        if self.vm.failure is None:
            self.vm.fail(Trap("restarted", module=self.name, callback="restart"))
        self._start()

    @property
    def limits(self) -> Limits:
        """What it may use."""
        return self.vm.limits

    @property
    def logs(self) -> list[LogLine]:
        """What it logged outside streams: while starting, in timers, in call-outs' answers."""
        return self.vm.vm_context.logs + self.context.logs

    def validate(self, config: Config) -> bool:
        """`proxy_validate_configuration`; True when the plugin has no opinion."""
        data = config_bytes(config)
        with self.context.handing_over(data):
            return self.context.enter("proxy_validate_configuration", len(data)) != 0

    def notify(self, function: int, data: bytes = b"") -> None:
        """`proxy_on_foreign_function`: the host calls the plugin, which finds `data` in the buffer "call data"."""
        self.context.last_buffer = data
        self.context.enter("proxy_on_foreign_function", function, len(data))

    def observe(self, observer: Observer | None) -> Observer | None:
        """Let `observer` watch every call between host and plugin; the one that did so before."""
        previous, self._observer = self._observer, observer
        self.vm.observer = observer
        return previous

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

    def _repr_html_(self) -> str:
        module = self.module
        groups: dict[str, list[str]] = {}
        for function in module.imports:
            groups.setdefault(function.group, []).append(function.short_name)
        facts = {
            "ABI": module.version,
            "state": f"failed: {self.vm.failure}" if self.vm.failure else "ready",
            "size": f"{len(module.code):,} bytes",
            "digest": module.digest,
            "callbacks": ", ".join(sorted(name.removeprefix("proxy_") for name in module.callbacks)),
            **{f"calls: {group}": ", ".join(names) for group, names in sorted(groups.items())},
        }
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'><code>{html.escape(value)}</code></td></tr>"
            for name, value in facts.items()
        )
        return f"<div><b>{html.escape(self.name)}</b></div><table>{rows}</table>"
