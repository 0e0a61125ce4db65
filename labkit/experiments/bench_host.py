"""How fast the embedded host is, beside three others that run the same compiled plugin (`labkit bench host`).

One request's whole life is measured: the stream's context is created, the plugin gets the request headers (and the
body, in the body rows), then log, done and delete. The contenders take turns, round by round, so that whatever else
the machine does meanwhile hits all of them.

| row        | host                                                                             |
|------------|----------------------------------------------------------------------------------|
| labkit     | `labkit.proxywasm`, a request made ready beforehand                              |
| labkit.request() | the same host by its convenient call, with the reply's own way through the plugin |
| proxytest  | the Go SDK's test host on wazero (`tools/bench/proxytest`)                        |
| rust       | a native host on the wasmtime crate (`tools/bench/rust`)                          |
| naive      | wasmtime's documented Python API (`labkit.experiments.naive_host`)                |
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import wasmtime

from labkit import resources, toolchains
from labkit.errors import LabkitError
from labkit.experiments.naive_host import NaiveHost
from labkit.proxywasm import Plugin, Result
from labkit.proxywasm._fast.bare import BareRequest

DEFAULT_ROUNDS: Final = 15
_ROUND_SECONDS: Final = 0.05
_EXTRA_ROUNDS: Final = 5
_LOADS: Final = 7

Pairs = list[tuple[str, str]]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one case.

    Attributes:
        name: The contender; behind a slash the case, when it is not the plain one.
        us_per_request: Median of the rounds, in microseconds.
        rounds: How many rounds were measured.
    """

    name: str
    us_per_request: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `labkit bench host --json` prints.

    Attributes:
        rows: The plain case first: `labkit`, `proxytest`, `naive`, `rust`, as far as their toolchains are there.
        load_ms: Loading the plugin from the cache of compiled modules until it is configured, median.
        skipped: Contenders that could not be built, and why.
    """

    rows: list[Row]
    load_ms: float
    skipped: dict[str, str]

    def to_json(self) -> str:
        """The document, with rows and load_ms alone."""
        return json.dumps({"rows": [asdict(row) for row in self.rows], "load_ms": self.load_ms}, indent=2)


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent to which plugin."""

    name: str
    module: Path
    config: str
    headers: Pairs
    body: str = ""
    properties: tuple[tuple[str, str], ...] = (("route_name", "default/foo"), ("cluster_name", "outbound|80||foo"))

    def order(self) -> str:
        """As the comparators in other languages read it."""
        return json.dumps(
            {"config": self.config, "properties": self.properties, "headers": self.headers, "body": self.body}
        )


class Contender(Protocol):
    """A host with a plugin in it, ready for requests.

    Attributes:
        answer: Status and body of the plugin's local reply to the first request, None when it let the request pass.
    """

    answer: tuple[int, str] | None

    def run(self, requests: int) -> float:
        """Seconds that so many requests took."""


class _Timed:
    """Calls a function again and again."""

    def __init__(self, request: Callable[[], tuple[int, bytes] | Result | None]) -> None:
        self._request = request
        reply = request()
        if isinstance(reply, Result):
            reply = (reply.status, reply.body) if reply.sent_by == "plugin" else None
        self.answer = (reply[0], reply[1].decode()) if reply else None

    def run(self, requests: int) -> float:
        request = self._request
        started = time.perf_counter()
        for _ in range(requests):
            request()
        return time.perf_counter() - started


def _plugin(case: Case) -> Plugin:
    return Plugin.load(case.module, config=case.config.encode())


@contextmanager
def _labkit(case: Case) -> Iterator[Contender]:
    properties = dict(case.properties)
    with _plugin(case) as plugin:
        request = BareRequest(
            plugin,
            headers=case.headers,
            body=case.body.encode(),
            route=properties["route_name"],
            cluster=properties["cluster_name"],
        )
        yield _Timed(request.run)


@contextmanager
def _labkit_request(case: Case) -> Iterator[Contender]:
    given = dict(case.headers)
    url = f"{given.pop(':scheme')}://{given.pop(':authority')}{given.pop(':path')}"
    method = given.pop(":method")
    properties = dict(case.properties)
    with _plugin(case) as plugin:
        yield _Timed(
            lambda: plugin.request(
                method,
                url,
                headers=given,
                body=case.body.encode(),
                route=properties["route_name"],
                cluster=properties["cluster_name"],
            )
        )


@contextmanager
def _naive(case: Case) -> Iterator[Contender]:
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, case.module.read_bytes())
    properties = {name.encode(): value.encode() for name, value in case.properties}
    host = NaiveHost(engine, module, case.config.encode(), properties)
    headers = [(name.encode(), value.encode()) for name, value in case.headers]
    body = case.body.encode()
    yield _Timed(lambda: host.request(headers, body))


class _Process:
    """A comparator that reads orders from its standard input."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name
        self.answer: tuple[int, str] | None = None

    def ask(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(line + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise LabkitError(f"{self._name} ended", hint="its own words are on standard error")
        return answer

    def run(self, requests: int) -> float:
        return int(self.ask(str(requests))) / 1e9


@contextmanager
def _process(name: str, program: Path, case: Case) -> Iterator[Contender]:
    with subprocess.Popen(
        [program, case.module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        comparator = _Process(process, name)
        try:
            reply = json.loads(comparator.ask(case.order()))
            comparator.answer = (reply["status"], reply["body"]) if reply["status"] else None
            yield comparator
        finally:
            process.kill()


def build_proxytest(cache: Path, on_progress: Progress | None = None) -> Path:
    """The Go comparator, built once for each state of its source."""
    return toolchains.build_tool(resources.path("tools/bench"), "proxytest", cache, on_progress=on_progress).path


def build_rust(cache: Path, on_progress: Progress | None = None) -> Path:
    """The Rust comparator; cargo builds what changed.

    Raises:
        ToolchainMissing: There is no cargo.
        BuildFailed: cargo failed.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise toolchains.ToolchainMissing("cargo is not on PATH", hint="install Rust from https://rustup.rs")
    if on_progress is not None:
        on_progress("cargo build (the first time it compiles wasmtime: some minutes)")
    target = cache / "bench-rust"
    command = [cargo, "build", "--release", "--locked", "--target-dir", str(target)]
    done = subprocess.run(command, cwd=resources.path("tools/bench/rust"), capture_output=True, text=True, check=False)
    if done.returncode:
        raise toolchains.BuildFailed("cargo could not build tools/bench/rust", details=done.stderr[-2000:])
    return target / "release" / ("bench-host.exe" if os.name == "nt" else "bench-host")


def measure(contenders: dict[str, Contender], rounds: int) -> list[Row]:
    """Let the contenders take turns; in every round another one begins."""
    requests = {name: _requests_for_a_round(contender) for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(contenders[name].run(requests[name]) / requests[name])
    return [Row(name, round(statistics.median(times) * 1e6, 2), rounds) for name, times in seconds.items()]


def _requests_for_a_round(contender: Contender) -> int:
    """As many as fill a round; the plugin's and the host's own caches are warm afterwards."""
    requests = 16
    while True:
        seconds = contender.run(requests)
        if seconds >= _ROUND_SECONDS / 4:
            return max(int(requests * _ROUND_SECONDS / seconds), 1)
        requests *= 4


BUILDS: Final[Mapping[str, Callable[[Path, Progress | None], Path]]] = MappingProxyType(
    {"proxytest": build_proxytest, "rust": build_rust}
)
"""Comparators that are programs, and how each is built."""


def bench_host(
    plugin: Path,
    cache: Path,
    *,
    rounds: int = DEFAULT_ROUNDS,
    comparators: Iterable[str] = tuple(BUILDS),
    on_progress: Progress | None = None,
) -> Report:
    """Measure every host that can be built on this machine.

    Args:
        plugin: The compiled mock plugin.
        cache: Where the comparators are built.
        rounds: Rounds of the plain case; the other cases get a third.
        comparators: Which programs to measure beside the hosts in this process.
        on_progress: Is told what is being built or measured.
    """
    say = on_progress or (lambda _: None)
    programs: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    for name in comparators:
        try:
            programs[name] = BUILDS[name](cache, on_progress)
        except LabkitError as error:
            skipped[name] = str(error)
            say(f"without {name}: {error}")
    load_ms = _load_ms(plugin)
    echo = cache / "bench_body.wasm"
    echo.parent.mkdir(parents=True, exist_ok=True)
    echo.write_bytes(wasmtime.wat2wasm((files("labkit.experiments") / "bench_body.wat").read_text("utf-8")))
    rows: list[Row] = []
    for case in cases(plugin, echo):
        say(f"measuring {case.name or 'the plain request'}")
        rows += _measure_case(case, programs, rounds if not case.name else max(rounds // 3, min(rounds, _EXTRA_ROUNDS)))
    return Report(rows, load_ms, skipped)


def _measure_case(case: Case, programs: dict[str, Path], rounds: int) -> list[Row]:
    with ExitStack() as stack:
        entered = {name: stack.enter_context(entry) for name, entry in _contenders(case, programs).items()}
        answers = {name: contender.answer for name, contender in entered.items()}
        if len(set(answers.values())) > 1:
            raise LabkitError(f"the hosts answer differently: {answers}", hint="their figures cannot be compared")
        rows = measure(entered, rounds)
    return [replace(row, name=f"{row.name}/{case.name}") if case.name else row for row in rows]


def _contenders(case: Case, programs: dict[str, Path]) -> dict[str, AbstractContextManager[Contender]]:
    contenders: dict[str, AbstractContextManager[Contender]] = {"labkit": _labkit(case)}
    contenders |= {name: _process(name, program, case) for name, program in programs.items()}
    contenders["naive"] = _naive(case)
    contenders["labkit.request()"] = _labkit_request(case)
    return contenders


def cases(mock: Path, body_plugin: Path) -> Sequence[Case]:
    """The plain request to the mock plugin, the same with 50 headers, and bodies through a plugin that reads them."""
    config = json.dumps(
        {
            "content": "hello higress",
            "_rules_": [
                {"_match_route_": ["default/foo"], "content": "hello foo"},
                {"_match_domain_": ["*.example.com"], "content": "hello world"},
            ],
        }
    )
    headers = [
        (":authority", "www.example.com"),
        (":path", "/foo?x=1"),
        (":method", "GET"),
        (":scheme", "http"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "*/*"),
        ("x-request-id", "4f3a1c0e-6c5b-4a8e-9d2f-0b1c2d3e4f50"),
        ("x-forwarded-proto", "http"),
    ]
    many = headers + [(f"x-header-{number}", f"value of header {number}") for number in range(50 - len(headers))]
    posted = [(name, "POST" if name == ":method" else value) for name, value in headers]
    return [
        Case("", mock, config, headers),
        Case("50-headers", mock, config, many),
        *(Case(f"body-{size}k", body_plugin, "", posted, "x" * (size << 10)) for size in (1, 10, 100)),
    ]


def _load_ms(module: Path) -> float:
    """The median of several loads; the first one fills the cache and is not counted."""
    times = []
    for _ in range(_LOADS + 1):
        started = time.perf_counter()
        Plugin.load(module, config="{}").close()
        times.append(time.perf_counter() - started)
    return round(statistics.median(times[1:]) * 1e3, 2)
