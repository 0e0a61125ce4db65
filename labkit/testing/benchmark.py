"""What a stream costs: the tests of a suite as benchmarks, in the embedded host as it runs everywhere else.

As in the original tester there are two benchmarks of the plugin itself (starting and ending the plugin, creating and
ending a stream) and one of the HTTP callbacks for each test that asks for it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from labkit.errors import LabkitError
from labkit.proxywasm import Host, HttpStream, LogLevel, Plugin, StreamInfo
from labkit.testing.http1 import MalformedHeaders
from labkit.testing.matching import BadMatcher
from labkit.testing.parse import Suite
from labkit.testing.runner import BadPlan, Bench, read_chunks, read_headers
from labkit.testing.sandbox import FrozenClock

Step = Callable[[HttpStream], object]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How long something takes.

    Attributes:
        name: `PluginLifecycle`, `StreamLifecycle`, or the test's name.
        rounds: How often it was done.
        mean: Microseconds.
        median: Microseconds.
        p95: Microseconds that 95 % of the rounds kept below.
        memory: Bytes of the plugin's memory afterwards.
        error: Why there are no figures.
    """

    name: str
    rounds: int = 0
    mean: float = 0.0
    median: float = 0.0
    p95: float = 0.0
    memory: int = 0
    error: str | None = None


def run_benchmarks(
    bench: Bench,
    *,
    select: Callable[[str], bool] = lambda name: True,
    min_time: float = 0.5,
    additional_streams: int | None = None,
    advance_rate: int | None = None,
) -> list[Benchmark]:
    """Time the plugin's life, a stream's life, and the callbacks of each test with `benchmark: true`.

    Args:
        bench: What `labkit.testing.runner.prepare` made of the suite.
        select: Which tests to time, by name; when none of them asks for it, all of them are timed.
        min_time: Seconds for each benchmark.
        additional_streams: How many other streams are under way meanwhile; `env.num_additional_streams` by default.
        advance_rate: How many of them go on between two rounds; `env.additional_stream_advance_rate` by default.
    """
    env = bench.suite.message.env
    streams = env.num_additional_streams if additional_streams is None else additional_streams
    rate = (env.additional_stream_advance_rate if advance_rate is None else advance_rate) or 3
    tests = [test for test in bench.suite.message.test if select(test.name)]
    tests = [test for test in tests if test.benchmark] or tests
    if not tests:
        return []
    return [
        _guarded("PluginLifecycle", lambda: _plugin_life(bench, min_time)),
        _guarded("StreamLifecycle", lambda: _streams("StreamLifecycle", bench, [], [], min_time, streams, rate)),
        *(_guarded(test.name, partial(_handlers, bench, test, min_time, streams, rate)) for test in tests),
    ]


def _guarded(name: str, run: Callable[[], Benchmark]) -> Benchmark:
    try:
        return run()
    except (LabkitError, MalformedHeaders, BadMatcher, BadPlan) as error:
        return Benchmark(name, error=str(error))


def _load(bench: Bench) -> Plugin:
    host = Host(clock=FrozenClock(bench.time_secs), log_level=LogLevel.CRITICAL)
    return Plugin.load(bench.module, config=bench.config, host=host, name=bench.module.name)


def _plugin_life(bench: Bench, min_time: float) -> Benchmark:
    memory = 0

    def once() -> float:
        nonlocal memory
        started = time.perf_counter()
        plugin = _load(bench)
        plugin.close()
        ended = time.perf_counter()
        memory = len(plugin.vm.memory)
        return ended - started

    return _statistics("PluginLifecycle", _repeat(once, min_time), memory)


def _handlers(bench: Bench, test: Any, min_time: float, streams: int, rate: int) -> Benchmark:
    return _streams(test.name, bench, _steps(bench.suite, test), list(test.properties), min_time, streams, rate)


def _steps(suite: Suite, test: Any) -> list[Step]:
    """What the test sends, each as a function of the stream; a gateway has no body without headers before it."""
    steps: list[Step] = []
    for side in ("response", "request"):
        bodies = getattr(test, f"{side}_body")
        headers: list[tuple[bytes, bytes]] = []
        if test.HasField(f"{side}_headers"):
            headers = read_headers(suite, getattr(test, f"{side}_headers").input, side == "request").pairs
        elif not bodies and not steps:
            continue
        chunks = [chunk for body in bodies for chunk, _ in read_chunks(suite, test, f"{side}_body", body.input)]
        body = [_body_step(side, chunk, index == len(chunks) - 1) for index, chunk in enumerate(chunks)]
        steps = [_headers_step(side, headers), *body, *steps]
    return steps


def _headers_step(side: str, pairs: list[tuple[bytes, bytes]]) -> Step:
    if side == "request":
        there = {name for name, _ in pairs}
        # A stream of the embedded host must be one that a gateway could have.
        wanted = ((b":method", b"GET"), (b":path", b"/"), (b":authority", b"example.com"))
        pairs = [*(pair for pair in wanted if pair[0] not in there), *pairs]
        return lambda stream: stream.request_headers(pairs)
    if not any(name == b":status" for name, _ in pairs):
        pairs = [(b":status", b"200"), *pairs]
    return lambda stream: stream.response_headers(pairs)


def _body_step(side: str, chunk: bytes, last: bool) -> Step:
    if side == "request":
        return lambda stream: stream.request_body(chunk, end_of_stream=last)
    return lambda stream: stream.response_body(chunk, end_of_stream=last)


def _streams(
    name: str, bench: Bench, steps: list[Step], properties: list[Any], min_time: float, streams: int, rate: int
) -> Benchmark:
    plugin = _load(bench)
    given = {item.path: item.value for item in properties}

    def life() -> Iterator[None]:
        stream = plugin.stream(StreamInfo(properties=dict(given)))
        for step in steps:
            if stream.replied or stream.reset_reason is not None:
                break
            step(stream)
            yield
        stream.close()
        yield

    def endless() -> Iterator[None]:
        while True:
            yield from life()

    others = [endless() for _ in range(streams)]
    for other in others:
        next(other)
    chance = random.Random(0)

    def once() -> float:
        for other in chance.choices(others, k=rate) if others else ():
            next(other)
        started = time.perf_counter()
        for _ in life():
            pass
        ended = time.perf_counter()
        if plugin.vm.failure is not None:
            raise plugin.vm.failure
        return ended - started

    result = _statistics(name, _repeat(once, min_time), len(plugin.vm.memory))
    plugin.host.close()
    return result


def _repeat(once: Callable[[], float], min_time: float) -> list[float]:
    """Times of as many rounds as fit; the first is for warming up and does not count."""
    once()
    times: list[float] = []
    end = time.perf_counter() + min_time
    while not times or time.perf_counter() < end:
        times.append(once())
    return times


def _statistics(name: str, times: list[float], memory: int) -> Benchmark:
    times.sort()
    p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
    return Benchmark(name, len(times), statistics.fmean(times) * 1e6, statistics.median(times) * 1e6, p95 * 1e6, memory)
