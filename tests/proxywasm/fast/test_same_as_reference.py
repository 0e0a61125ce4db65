"""Whatever a plugin does, it and the client see the same with hot calls answered inside Wasm as with all in Python."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from labkit.proxywasm import FakeClock, Host, LogLevel, Module, Plugin, Response, Result, abi

from .interpreter import CALLBACKS, FUNCTIONS, MEMORY, OUT, Op, Program, Strings, forget, install, interpreter, records

NAMES = [
    b":path",
    b":method",
    b":authority",
    b"host",
    b"a",
    b"b",
    b"Mixed-Case",
    b"accept",
    b"cookie",
    b"",
    b"x y",
    b"x" * 40,
]
VALUES = [b"", b"1", b"value", b"/other?q=1", b"GET", b" padded ", b"tab\there", b"nul\0", "ü".encode(), b"x" * 300]
PATHS = [
    b"route_name",
    b"cluster_name",
    b"own",
    b"other",
    b"plugin_name",
    b"request\0path",
    b"request",
    b"own\0",
    b"",
    b"response\0code",
]
PAIRS = [
    b"",
    b"\0\0\0\0",
    b"\1\0\0\0\1\0\0\0\1\0\0\0k\0v\0",
    b"\2\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0k\0v\0K\0\0",
    b"\1\0\0\0\1\0\0\0\1\0\0\0k\0v",
    b"\xff\xff\xff\xff",
    b"\1\0\0\0\xff\xff\xff\xff\1\0\0\0k\0v\0",
]
TEXTS = [b"get_log_level", b"set_envoy_filter_state", b"cluster", b"message", b"\xff\xfe", b""]
BAD = [0, 1, MEMORY - 1, MEMORY, 0xFFFFFFFF, 0x80000000]


@dataclass(frozen=True)
class Life:
    """One request, and what the upstream answers."""

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    response: tuple[tuple[str, str], ...] = ()
    response_body: bytes = b""
    callable_upstream: bool = True


_STRINGS = Strings()
_POOL = {
    kind: [_STRINGS.place(value) for value in values]
    for kind, values in {"key": NAMES, "value": VALUES, "path": PATHS, "pairs": PAIRS, "text": TEXTS}.items()
}


def _argument(parameter: abi.Parameter) -> st.SearchStrategy[tuple[int, ...]]:
    if parameter.out:
        good: tuple[int, ...] = (OUT, OUT + 4) if len(parameter.wasm_types) == 2 else (OUT + 4,)
        bad = st.tuples(*(st.sampled_from(BAD[2:]) for _ in good))
        return st.one_of(*[st.just(good)] * 9, bad)
    if len(parameter.wasm_types) == 2:
        kind = parameter.name if parameter.name in _POOL else "pairs" if parameter.kind == "pairs" else "value"
        if parameter.name in ("function", "cluster", "message", "name", "service", "method"):
            kind = "text"
        bad = st.tuples(st.sampled_from(BAD), st.sampled_from([1, 5, 0xFFFFFFFF]))
        return st.one_of(*[st.sampled_from(_POOL[kind])] * 9, bad)
    small = {"map": 9, "buffer": 10, "level": 7, "stream": 4, "context": 5, "metric": 3}
    limit = small.get(parameter.kind, small.get(parameter.name, 0))
    numbers = st.integers(0, limit) if limit else st.sampled_from([0, 1, 2, 5, 100, 200, 204, 404, 503, 0xFFFFFFFF])
    return numbers.map(lambda number: (number,))


def _op(function: abi.Function) -> st.SearchStrategy[Op]:
    arguments = st.tuples(*(_argument(parameter) for parameter in function.params))
    return arguments.map(lambda parts: Op(function.name, tuple(word for part in parts for word in part)))


HOT = [f for f in FUNCTIONS if f.group in ("headers", "buffers", "properties", "logging", "clock", "contexts")]
HOT += [f for f in FUNCTIONS if f.name in ("proxy_send_local_response", "clock_time_get")]
OPS = st.one_of(*[st.sampled_from(HOT).flatmap(_op)] * 4, st.sampled_from(FUNCTIONS).flatmap(_op))


def _programs(most: int = 5) -> st.SearchStrategy[dict[str, Program]]:
    def program(name: str) -> st.SearchStrategy[Program]:
        # Mostly the answer that lets the request go on.
        answers = [0] * 12 + [1, 2, 3, 7]
        if name == "malloc":
            answers = [0] * 6 + [1, MEMORY, MEMORY + 1]
        return st.builds(Program, st.lists(OPS, max_size=most).map(tuple), st.sampled_from(answers))

    return st.fixed_dictionaries({}, optional={name: program(name) for name in CALLBACKS if name != "malloc"}).flatmap(
        lambda programs: st.one_of(
            *[st.just(programs)] * 7, program("malloc").map(lambda malloc: {**programs, "malloc": malloc})
        )
    )


_HEADER = st.tuples(st.sampled_from(["a", "b", "cookie", "accept", "X-Mixed"]), st.sampled_from(["1", "two", "", "ü"]))
LIVES = st.builds(
    Life,
    st.lists(_HEADER, max_size=4).map(tuple),
    st.sampled_from([b"", b"", b"body", b"x" * 3000]),
    st.lists(_HEADER, max_size=3).map(tuple),
    st.sampled_from([b"", b"answer", b"y" * 3000]),
    st.booleans(),
)


@functools.cache
def _module() -> Module:
    return Module.load(interpreter(), name="interpreter")


def _plugin(programs: dict[str, Program], *, fast: bool, strict: bool = False) -> Plugin:
    host = Host(clock=FakeClock(), log_level=LogLevel.DEBUG, seed=1, fast=fast, strict=strict)
    plugin = Plugin.load(_module(), host=host, config="configuration", vm_config="vm")
    install(plugin, programs, _STRINGS)
    return plugin


def _observed(plugin: Plugin, life: Life) -> dict[str, Any]:
    """Everything that can be seen of one request, by the client, the upstream, the plugin and the host."""
    if plugin.vm.failure is None:
        forget(plugin)
    seen: list[Any] = []

    def upstream(request: Any) -> Response:
        if request is not None:
            seen.append((list(request.headers), request.body, request.trailers))
        return Response(200, list(life.response), life.response_body)

    outcome: Any
    try:
        result: Result = plugin.request(
            "GET",
            "http://example.com/path?query",
            headers=list(life.headers),
            body=life.body,
            route="default/foo",
            cluster="outbound|80||foo",
            upstream=upstream if life.callable_upstream else upstream(None),
            timeout=0.01,
        )
        forwarded = result.forwarded and (list(result.forwarded.headers), result.forwarded.body)
        outcome = replace(result, problems=[], forwarded=forwarded, headers=list(result.headers))  # type: ignore[arg-type]
        problems = [str(problem) for problem in result.problems]
    except Exception as error:
        outcome, problems = f"{type(error).__name__}: {error}", []
    return {
        "outcome": outcome,
        "problems": problems,
        "upstream": seen,
        "records": records(plugin),
        "plugin logs": plugin.logs,
        "failure": str(plugin.vm.failure),
        "contexts": sorted(plugin.vm.contexts),
        "next context": plugin.vm.next_context_id,
    }


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(_programs(), st.lists(LIVES, min_size=1, max_size=3))
def test_a_random_plugin_sees_and_does_the_same(programs: dict[str, Program], lives: list[Life]) -> None:
    fast, reference = (_plugin(programs, fast=fast) for fast in (True, False))
    # The first request shows the fast path what the plugin asks for; the second one is answered inside.
    for life in [lives[0], lives[0], *lives]:
        seen, expected = _observed(fast, life), _observed(reference, life)
        for what, value in expected.items():
            note(f"{what}: {value!r}")
            assert seen[what] == value, what
