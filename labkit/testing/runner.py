"""Run the tests of a suite: each with a VM of its own, phase after phase.

A broken expectation is recorded and the test goes on; what makes the rest meaningless (the plugin does not start, its
VM fails, an input cannot be read) ends it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from labkit.errors import LabkitError, UsageError
from labkit.proxywasm import Host, LogLevel, Module, Plugin, Trap
from labkit.testing.expectations import check_logs, check_phase
from labkit.testing.http1 import MalformedHeaders, parse_http1
from labkit.testing.matching import BadMatcher, read_near
from labkit.testing.parse import Suite
from labkit.testing.results import Failure, PhaseLog, SuiteResult, TestResult
from labkit.testing.sandbox import FrozenClock, PhaseResult, SortedHeaders, TesterCalls, TesterStream


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tests of a suite run with, once `env` and what overrides it are settled.

    Attributes:
        suite: The suite.
        module: The plugin's module.
        config: The plugin's configuration.
        log_level: Lines below it are dropped.
        time_secs: What the clock shows; 0 for one millisecond after 1970 began.
    """

    suite: Suite
    module: Module
    config: bytes
    log_level: LogLevel
    time_secs: int


def prepare(
    suite: Suite,
    *,
    plugin: str | os.PathLike[str] | Module | None = None,
    config: str | bytes | None = None,
    log_level: str | None = None,
) -> Bench:
    """Load what the suite's `env` names, or what is given instead.

    Raises:
        UsageError: There is no plugin, or a file cannot be read.
        PluginError: The plugin is none.
    """
    env = suite.message.env
    if plugin is None:
        if not env.wasm_path:
            raise UsageError(
                f"{suite.path}: names no plugin", hint="set env.wasm_path, or pass the plugin before the suite"
            )
        plugin = suite.named(env.wasm_path)
    module = plugin if isinstance(plugin, Module) else Module.load(plugin)
    if config is None:
        config = _read(suite.named(env.config_path)) if env.config_path else b""
    level = log_level.upper() if log_level else LogLevel(max(env.log_level - 1, -1)).name if env.log_level else "INFO"
    try:
        known = LogLevel[level]
    except KeyError:
        names = ", ".join(item.name for item in LogLevel)
        raise UsageError(f"{log_level!r} is no log level", hint=f"one of {names}") from None
    data = config.encode() if isinstance(config, str) else config
    return Bench(suite, module, data, known, env.time_secs)


def run_suite(
    suite: Suite,
    *,
    plugin: str | os.PathLike[str] | Module | None = None,
    config: str | bytes | None = None,
    log_level: str | None = None,
    select: Callable[[str], bool] = lambda name: True,
    log_file: IO[str] | None = None,
) -> SuiteResult:
    """Run the tests of a suite.

    Args:
        suite: What `load_suite` read.
        plugin: The plugin to test; what `env.wasm_path` names by default.
        config: Its configuration; the content of `env.config_path` by default.
        log_level: Lines below it are dropped; `env.log_level` by default, else INFO.
        select: Which tests to run, by name.
        log_file: Gets what the plugin logs.

    Raises:
        UsageError: There is no plugin, or a file cannot be read.
        PluginError: The plugin is none.
    """
    bench = prepare(suite, plugin=plugin, config=config, log_level=log_level)
    tests = [run_test(bench, test, log_file) for test in suite.message.test if select(test.name)]
    return SuiteResult(suite.path, tuple(tests))


def run_test(bench: Bench, test: Any, log_file: IO[str] | None = None) -> TestResult:
    """Run one test of the suite: a `Test` message."""
    run = _Run(bench, test, log_file)
    started = time.perf_counter()
    if log_file:
        print(f"--- Starting test: {test.name} ---", file=log_file)
    try:
        run.all_phases()
    except _Stop as stop:
        run.failures.append(stop.failure)
    if log_file:
        print(f"--- Finished test: {test.name} ---", file=log_file, flush=True)
    return TestResult(test.name, tuple(run.failures), tuple(run.logs), time.perf_counter() - started)


class _Stop(Exception):
    """The test cannot go on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass
class _Run:
    """One test while it runs."""

    bench: Bench
    test: Any
    log_file: IO[str] | None
    failures: list[Failure] = field(default_factory=list)
    logs: list[PhaseLog] = field(default_factory=list)
    phase: str = "plugin_init"

    def all_phases(self) -> None:
        """Everything that the test asks for, in the order in which a stream has it."""
        test, suite = self.test, self.bench.suite
        plugin = self._load()
        try:
            self._check_health(plugin)
            self.failures += check_logs("plugin_init", test.plugin_init, _messages(plugin), suite)
            self.phase = "stream_init"
            properties: dict[str, bytes] = {}
            for given in test.properties:
                properties.setdefault(given.path, given.value)
            stream = TesterStream(plugin.context, properties)
            self._check_health(plugin)
            self.failures += check_logs("stream_init", test.stream_init, stream.phase_logs, suite)
            self._http_phases(plugin, stream)
            self.phase = "stream_destroy"
            stream.destroy()
            self._check_health(plugin)
            self.failures += check_logs("stream_destroy", test.stream_destroy, stream.phase_logs, suite)
            self.phase = "plugin_destroy"
            plugin.close()
            self._check_health(plugin)
        finally:
            plugin.host.close()

    def _http_phases(self, plugin: Plugin, stream: TesterStream) -> None:
        for side in ("request", "response"):
            if self.test.HasField(f"{side}_headers"):
                self._headers_phase(plugin, stream, f"{side}_headers")
            invocations = getattr(self.test, f"{side}_body")
            for index, invocation in enumerate(invocations):
                self.phase = f"{side}_body[{index}]" if len(invocations) > 1 else f"{side}_body"
                self._body_phase(plugin, stream, f"{side}_body", invocation)

    def _headers_phase(self, plugin: Plugin, stream: TesterStream, phase: str) -> None:
        self.phase = phase
        invocation = getattr(self.test, phase)
        result = stream.send_headers(phase, self._input(read_headers, invocation.input, phase == "request_headers"))
        self._check_health(plugin)
        self.failures += check_phase(phase, invocation.result, result, stream.phase_logs, self.bench.suite)

    def _body_phase(self, plugin: Plugin, stream: TesterStream, phase: str, invocation: Any) -> None:
        whole = PhaseResult()
        for chunk, last in self._input(read_chunks, self.test, phase, invocation.input):
            result = stream.send_body(phase, chunk, last)
            self._check_health(plugin)
            whole.body += result.body
            # The original forgets a reply from a body, so that no expectation about it could ever hold; one that is
            # not expected changes nothing here either.
            if result.http_status and invocation.result.HasField("immediate"):
                result.body, result.action = stream.reply_body, 4
                whole = result
        self.failures += check_phase(self.phase, invocation.result, whole, stream.phase_logs, self.bench.suite)

    def _input(self, read: Callable[..., Any], *args: Any) -> Any:
        try:
            return read(self.bench.suite, *args)
        except (BadMatcher, MalformedHeaders, BadPlan) as error:
            raise _Stop(Failure(self.phase, str(error))) from None

    def _load(self) -> Plugin:
        bench = self.bench
        host = Host(
            clock=FrozenClock(bench.time_secs), log_level=bench.log_level, on_log=self._logged, fast=False, seed=1
        )
        try:
            plugin = Plugin.load(bench.module, config=bench.config, host=host, name=bench.module.name)
        except LabkitError as error:
            details = error.details.split("\n") if isinstance(error.__cause__, Trap) and error.details else []
            raise _Stop(Failure(self.phase, error.message, actual=tuple(details))) from None
        plugin.observe(TesterCalls())
        return plugin

    def _logged(self, line: Any) -> None:
        self.logs.append(PhaseLog(self.phase, str(line)))
        if self.log_file:
            print(line.message, file=self.log_file)

    def _check_health(self, plugin: Plugin) -> None:
        trap = plugin.vm.failure
        if trap is not None:
            stack = tuple(trap.details.split("\n")) if trap.details else ()
            raise _Stop(Failure(self.phase, f"the VM failed: {trap.message}", actual=stack))


class BadPlan(ValueError):
    """A body cannot be cut as the test asks."""


def read_headers(suite: Suite, message: Any, request: bool) -> SortedHeaders:
    """The headers that an `Input` message describes: a file, a text, or one by one.

    Raises:
        BadMatcher: The file cannot be read.
        MalformedHeaders: It is no head of an HTTP/1 message.
    """
    content = read_near(suite, message.file) if message.file else message.content
    if content:
        return SortedHeaders(parse_http1(content, request=request))
    return SortedHeaders((header.key.encode(), header.value) for header in message.header)


def read_chunks(suite: Suite, test: Any, phase: str, message: Any) -> list[tuple[bytes, bool]]:
    """The chunks of a body, each with whether it is the last one.

    Raises:
        BadMatcher: The file cannot be read.
        BadPlan: The test's chunking makes no sense.
    """
    body = read_near(suite, message.file) if message.file else bytes(message.content)
    plan = test.WhichOneof("body_chunking_plan")
    if plan is None:
        return [(body, True)]
    if len(getattr(test, phase)) > 1:
        raise BadPlan(f"{plan} needs a body of one invocation")
    chunks = _in_number(body, test.num_chunks) if plan == "num_chunks" else _in_size(body, test.chunk_size)
    return [(chunk, index == len(chunks) - 1) for index, chunk in enumerate(chunks)]


def _in_number(body: bytes, number: int) -> list[bytes]:
    if not 0 < number <= max(len(body), 1):
        raise BadPlan(f"{len(body)} bytes cannot be cut into {number} chunks")
    size = len(body) // number
    cut = size * (number - 1)
    return [*(body[start : start + size] for start in range(0, cut, size or 1)), body[cut:]]


def _in_size(body: bytes, size: int) -> list[bytes]:
    if size < 1:
        raise BadPlan(f"chunk_size is {size}")
    return [body[start : start + size] for start in range(0, len(body), size)] or [b""]


def _messages(plugin: Plugin) -> Sequence[str]:
    return [line.message for line in plugin.context.logs]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
