"""No module, argument or answer brings the process down, hangs it, or shows another stream's data."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.proxywasm import (
    AbiError,
    ConfigRejected,
    DeadlineExceeded,
    FakeClock,
    FuelExhausted,
    Host,
    InvalidModule,
    LimitExceeded,
    Limits,
    MissingAllocator,
    ModuleCache,
    Plugin,
    PluginError,
    StackExhausted,
    StartFailed,
    Status,
    Trap,
    UnknownCluster,
    UnknownImports,
    abi,
)

from .probe import ALLOCATOR, Probe, marker, probe_wat

HEADERS = '(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {})'
MEMORY = '(memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))'
FUNCTIONS = sorted({f.name: f for f in abi.host_functions(abi.V0_2_100).values()}.items())

words = st.one_of(
    st.integers(0, 64),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from([0, 1, 65528, 65535, 65536, 65537, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF]),
)


def module(body: str = "(i32.const 0)", *, extra: str = "", parts: str = MEMORY + ALLOCATOR) -> bytes:
    return f"(module {extra} {marker('0.2.1')} {parts} {HEADERS.format(body)})".encode()


@pytest.fixture(scope="module", params=["reference", "fast"])
def victim(request):
    host = Host(clock=FakeClock(), clusters={"c": lambda request: None}, fast=request.param == "fast")
    return Probe(host=host, callbacks={"proxy_on_request_headers": "(i32.const 1)"})


@pytest.mark.parametrize("name", [name for name, _ in FUNCTIONS])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_arguments_are_answered(victim, name, data):
    function = dict(FUNCTIONS)[name]
    stream = victim.stream()
    stream.request_headers({":path": "/", ":method": "GET", ":authority": "a"})
    args = [data.draw(words) for _ in function.wasm_params]
    result = victim.raw(name, *args, context=stream.contexts[0])
    if function.result == "status":
        assert result in list(Status)
    assert victim.failure() is None
    stream.close()


def test_a_bad_pointer_is_reported_with_function_and_argument(probe):
    assert probe.raw("proxy_log", 2, 70000, 5) == Status.INVALID_MEMORY_ACCESS
    (problem,) = probe.plugin.context.problems
    assert (problem.module, problem.function, problem.argument) == ("<bytes>", "proxy_log", "message")
    probe.raw("proxy_get_property", 0, 3, 16, 0xFFFFFFFE)
    assert len(probe.plugin.context.problems) in (1, 2)


def test_a_strict_host_raises_instead():
    probe = Probe(host=Host(strict=True))
    with pytest.raises(PluginError, match="argument message"):
        probe.raw("proxy_log", 2, 70000, 5)
    assert probe.failure() is not None


@pytest.mark.parametrize(
    ("code", "kind", "match"),
    [
        (b"", InvalidModule, "no WebAssembly module"),
        (b"hello", InvalidModule, "no WebAssembly module"),
        (b"\x7fELF" + bytes(99), InvalidModule, "no WebAssembly module"),
        (b"\0asm\x0d\0\1\0", InvalidModule, "another version"),
        (b"\0asm\1\0\0\0\1\xff", InvalidModule, "no valid WebAssembly module"),
        (module(extra="(func (result i32))"), InvalidModule, "assemble|refuses"),
        (b"(module (bogus))", InvalidModule, "does not assemble"),
        (f"(module {MEMORY})".encode(), AbiError, "no ABI marker"),
        (f"(module {marker('0.2.0')}{marker('0.2.1')})".encode(), AbiError, "2 ABI markers"),
        (f"(module {marker('9.9.9')})".encode(), AbiError, "not known here"),
        (f"(module {marker('0.2.1')} {MEMORY}{ALLOCATOR})".encode(), AbiError, "no callback"),
        (module(parts=MEMORY), MissingAllocator, "no allocator"),
        (module(parts=f"(memory 1) (global $next (mut i32) (i32.const 0)) {ALLOCATOR}"), StartFailed, "no memory"),
        (module(extra='(func (export "proxy_on_log"))'), AbiError, "proxy_on_log with a wrong type"),
        (module(extra='(import "env" "proxy_log" (func (param i32)))'), AbiError, "wrong type"),
        (module(extra='(import "env" "proxy_log" (global i32))'), AbiError, "wrong type"),
    ],
)
def test_what_is_no_plugin_is_refused(code, kind, match):
    with pytest.raises(kind, match=match) as caught:
        Plugin.load(code)
    assert caught.value.module == "<bytes>"


def test_all_unknown_imports_are_listed():
    code = module(extra='(import "env" "one" (func)) (import "wasi_snapshot_preview1" "two" (func))')
    with pytest.raises(UnknownImports) as caught:
        Plugin.load(code)
    assert caught.value.imports == ("env.one", "wasi_snapshot_preview1.two")


def test_a_function_of_another_abi_is_named_as_such():
    code = module(extra='(import "env" "proxy_get_configuration" (func (param i32 i32) (result i32)))')
    with pytest.raises(UnknownImports, match="proxy_get_configuration") as caught:
        Plugin.load(code)
    assert "0.1.0" in (caught.value.hint or "")


def test_a_rejected_configuration_shows_what_the_plugin_logged():
    body = "(drop (call $proxy_log (i32.const 4) (i32.const 16) (i32.const 3))) (i32.const 0)"
    log = abi.host_functions(abi.V0_2_1)["env", "proxy_log"]
    wat = probe_wat(abi.V0_2_1, [log], {"proxy_on_configure": body}, '(data (i32.const 16) "why")')
    with pytest.raises(ConfigRejected) as caught:
        Plugin.load(wat.encode(), config={"a": 1})
    assert caught.value.logs == ("[error] why",)
    assert (caught.value.function, caught.value.argument) == ("proxy_on_configure", "plugin_configuration")


@pytest.mark.parametrize("name", ["proxy_on_vm_start", "proxy_on_configure", "proxy_on_context_create"])
def test_a_trap_while_starting(name):
    with pytest.raises(StartFailed) as caught:
        Plugin.load(probe_wat(abi.V0_2_1, [], {name: "(unreachable)"}).encode())
    assert "unreachable" in caught.value.message
    assert name in (caught.value.function or "")


def test_a_trap_in_a_start_function():
    with pytest.raises(StartFailed, match="_initialize"):
        Plugin.load(module(extra='(func (export "_initialize") unreachable)'))
    with pytest.raises(Trap, match="instantiation"):
        Plugin.load(module(parts=f"{MEMORY} {ALLOCATOR} (func $boom unreachable) (start $boom)"))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", [name for name, _ in FUNCTIONS])
def test_a_start_section_may_call_anything_and_gets_an_answer(name, fast):
    function = dict(FUNCTIONS)[name]
    params = "".join(f" (param {kind})" for kind in function.wasm_params)
    results = "".join(f" (result {kind})" for kind in function.wasm_results)
    args = " ".join(f"({kind}.const 64)" for kind in function.wasm_params)
    wanted = f'(import "{function.module}" "{name}" (func $it{params}{results}))'
    body = f"(call $it {args})" if not results else f"(drop (call $it {args}))"
    start = f"(func $start {body}) (start $start)"
    code = f"(module {wanted} {marker('0.2.100')} {MEMORY}{ALLOCATOR} {HEADERS.format('(i32.const 0)')} {start})"
    assert Plugin.load(code.encode(), host=Host(fast=fast)).request().status == 200


GOOD = bytes(wasmtime.wat2wasm(probe_wat(abi.V0_2_1, [abi.host_functions(abi.V0_2_1)["env", "proxy_log"]])))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(8, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_module_is_refused_or_runs(changes):
    code = bytearray(GOOD)
    for position, byte in changes:
        code[position] = byte
    try:
        plugin = Plugin.load(bytes(code), limits=Limits(deadline=0.5, memory=1 << 22), cache=ModuleCache(None))
    except PluginError:
        return
    assert plugin.request().status in (200, 503, 504)


def test_a_start_function_may_not_call_everything():
    clock = '(import "env" "proxy_get_current_time_nanoseconds" (func $clock (param i32) (result i32)))'
    start = '(func (export "_initialize") (drop (call $clock (i32.const 0))))'
    with pytest.raises(StartFailed, match="before it has started"):
        Plugin.load(module(extra=clock, parts=MEMORY + ALLOCATOR + start))


RECURSE = "(func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))"


@pytest.mark.parametrize(
    ("body", "limits", "kind"),
    [
        ("(loop (br 0)) (i32.const 0)", Limits(deadline=0.05), DeadlineExceeded),
        ("(loop (br 0)) (i32.const 0)", Limits(fuel=10_000), FuelExhausted),
        ("(call $deep (i32.const 0))", Limits(stack=64 << 10), StackExhausted),
    ],
)
def test_limits_of_time_fuel_and_stack(body, limits, kind):
    plugin = Plugin.load(module(body, parts=MEMORY + ALLOCATOR + RECURSE), limits=limits)
    result = plugin.request()
    assert (result.status, result.sent_by) == (503, "host")
    assert isinstance(result.trap, kind)
    assert result.trap.callback == "proxy_on_request_headers"


def test_a_deadline_counts_for_start_functions_too():
    with pytest.raises(StartFailed, match="_initialize"):
        Plugin.load(module(extra='(func (export "_initialize") (loop (br 0)))'), limits=Limits(deadline=0.05))


def test_a_limit_of_memory():
    plugin = Plugin.load(module("(drop (memory.grow (i32.const 100))) (i32.const 0)"), limits=Limits(memory=1 << 20))
    assert plugin.request().status == 200
    assert len(plugin.vm.memory) == 1 << 16
    with pytest.raises(LimitExceeded, match="memory") as caught:
        Plugin.load(module(parts=MEMORY.replace(") 1)", ") 99)") + ALLOCATOR), limits=Limits(memory=1 << 20))
    assert caught.value.limit == "memory"


def test_a_limit_of_tables():
    with pytest.raises(LimitExceeded):
        Plugin.load(module(extra="(table 5000 funcref)"), limits=Limits(table=100))


def test_a_limit_of_logs():
    probe = Probe(limits=Limits(log_lines=3, log_line_bytes=10))
    for _ in range(9):
        probe.call("proxy_log", 2, "a line that is too long")
    assert [line.message for line in probe.plugin.logs] == ["a line tha"] * 3
    assert probe.plugin.context.logs_dropped == 6


@pytest.mark.parametrize(("side", "status"), [("request", 413), ("response", 500)])
def test_a_limit_of_buffered_bodies(side, status):
    names = {f"proxy_on_{side}_headers": "(i32.const 3)"}
    plugin = Probe(callbacks=names, limits=Limits(body=1000)).plugin
    result = plugin.request("POST", body=b"x" * 2000, upstream=lambda request: b"y" * 2000, chunk_size=600)
    assert result.status == status


def test_an_allocator_that_calls_the_host_forever():
    parts = """(memory (export "memory") 1)
      (func $ask (drop (call $get (i32.const 6) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4))))
      (func (export "malloc") (param i32) (result i32) (call $ask) (i32.const 64))"""
    extra = '(import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))'
    result = Plugin.load(module("(call $ask) (i32.const 0)", extra=extra, parts=parts), vm_config="x").request()
    assert isinstance(result.trap, StackExhausted)


@pytest.mark.parametrize("address", [0, 0xFFFFFFF0])
def test_an_allocator_that_lies(address):
    parts = f'{MEMORY}(func (export "malloc") (param i32) (result i32) (i32.const {address}))'
    get = "(drop (call $get (i32.const 0) (i32.const 0) (i32.const 4))) (i32.const 0)"
    extra = '(import "env" "proxy_get_header_map_pairs" (func $get (param i32 i32 i32) (result i32)))'
    result = Plugin.load(module(get, extra=extra, parts=parts)).request()
    assert result.status == 200


def test_an_unknown_cluster_is_recorded(probe):
    probe.call("proxy_http_call", "nowhere", [], "", [], 0)
    assert [type(problem) for problem in probe.plugin.context.problems] == [UnknownCluster]


def test_a_stream_cannot_see_another_ones_state(host):
    probe = Probe(host=host, callbacks={"proxy_on_request_headers": "(i32.const 1)"})
    first, second = probe.stream(), probe.stream()
    first.request_headers({":path": "/", ":method": "GET", "secret": "1"})
    second.request_headers({":path": "/", ":method": "GET"})
    assert probe.call("proxy_get_header_map_value", 0, "secret", context=second.contexts[0]) == (Status.NOT_FOUND,)
    probe.call("proxy_set_property", "mine", "1", context=first.contexts[0])
    assert probe.call("proxy_get_property", "mine", context=second.contexts[0]) == (Status.NOT_FOUND,)
