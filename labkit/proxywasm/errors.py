"""What can go wrong with a plugin, each with the module, function and argument it happened at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import LabkitError


class PluginError(LabkitError):
    """Anything wrong with a plugin or with what it asked of the host.

    Attributes:
        module: Which module: its file name or image, or `<bytes>`.
        function: The import, export or callback concerned, when there is one.
        argument: The argument of that function concerned, when there is one.
    """

    def __init__(
        self,
        message: str,
        *,
        module: str = "<bytes>",
        function: str | None = None,
        argument: str | None = None,
        hint: str | None = None,
        details: str | None = None,
    ) -> None:
        super().__init__(f"{module}: {message}", hint=hint, details=details)
        self.module = module
        self.function = function
        self.argument = argument


class InvalidModule(PluginError):
    """The bytes are no WebAssembly module, or one that the engine refuses."""


class AbiError(PluginError):
    """The module does not follow a proxy-wasm ABI: no marker, several, or a callback of the wrong type."""


class UnknownImports(PluginError):
    """The module imports functions that no host of its ABI version has.

    Attributes:
        imports: All of them, as `module.name`.
    """

    def __init__(self, imports: Sequence[str], *, module: str, version: str, hint: str | None = None) -> None:
        what = "an unknown function" if len(imports) == 1 else f"{len(imports)} unknown functions"
        super().__init__(
            f"imports {what} (ABI {version}): {', '.join(imports)}", module=module, function=imports[0], hint=hint
        )
        self.imports = tuple(imports)


class MissingAllocator(PluginError):
    """The module exports neither `malloc` nor `proxy_on_memory_allocate`."""


class StartFailed(PluginError):
    """The module did not start: a start function trapped or `proxy_on_vm_start` answered false."""


class ConfigRejected(PluginError):
    """`proxy_on_configure` answered false.

    Attributes:
        logs: What the plugin logged meanwhile; it usually says why.
    """

    def __init__(self, message: str, *, module: str, logs: Sequence[str] = ()) -> None:
        super().__init__(
            message,
            module=module,
            function="proxy_on_configure",
            argument="plugin_configuration",
            hint="read what the plugin logged, below" if logs else "the plugin did not log why",
            details="\n".join(logs) or None,
        )
        self.logs = tuple(logs)


class LimitExceeded(PluginError):
    """The module wants more of something than its `Limits` allow.

    Attributes:
        limit: Name of the field of `Limits`.
    """

    def __init__(self, message: str, *, module: str, limit: str, function: str | None = None) -> None:
        super().__init__(message, module=module, function=function, argument=limit, hint=f"raise Limits({limit}=…)")
        self.limit = limit


class UnknownCluster(PluginError):
    """A call-out names a cluster that the host has no handler for.

    The plugin itself gets BadArgument, as in Envoy; the exception is recorded with the stream's result.
    """


class HostCallFailed(PluginError):
    """A Python callable that answers for the host (call-out, foreign function) raised an exception."""


class StreamClosed(PluginError):
    """A phase was sent to a stream that is over, or out of order."""


class StreamStuck(PluginError):
    """A plugin paused a stream for good; Envoy would end it when its idle time-out fires."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One function on the plugin's stack when it trapped.

    Attributes:
        function: Its name from the name section, or `wasm-function[n]`.
        index: Its index in the module.
        offset: Byte offset in the module.
        file: Source file, when the module carries DWARF line tables.
        line: Line in it.
    """

    function: str
    index: int
    offset: int
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f" at {self.file}:{self.line}" if self.file else f" at offset {self.offset:#x}"
        return f"{self.function}{where}"


class Trap(PluginError):
    """The plugin stopped abnormally; its VM is unusable from here on.

    Attributes:
        code: Why, in the engine's words: `unreachable`, `out of bounds memory access`, `call stack exhausted`, …
        callback: The callback or export that was running.
        frames: The plugin's own stack, innermost first.
    """

    def __init__(
        self,
        code: str,
        *,
        module: str,
        callback: str,
        frames: Sequence[Frame] = (),
        hint: str | None = None,
    ) -> None:
        stack = "\n".join(f"{n:>3}: {frame}" for n, frame in enumerate(frames))
        super().__init__(
            f"{callback} trapped: {code}", module=module, function=callback, hint=hint, details=stack or None
        )
        self.code = code
        self.callback = callback
        self.frames = tuple(frames)


class DeadlineExceeded(Trap):
    """The plugin ran longer than `Limits.deadline` and was interrupted."""


class FuelExhausted(Trap):
    """The plugin used up `Limits.fuel`."""


class StackExhausted(Trap):
    """The plugin's recursion went deeper than `Limits.stack` or `Limits.depth`."""
