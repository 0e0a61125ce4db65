"""A plugin that runs programs: for every callback a list of host calls, whose answers it writes down.

The test writes a program into the plugin's memory and reads there afterwards what every call answered and handed out,
so that two hosts can be compared from the plugin's own point of view.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field

from labkit.proxywasm import Plugin, abi

CALLBACKS = (
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
    "malloc",
)
FUNCTIONS = tuple(
    function
    for function in abi.host_functions(abi.V0_2_100).values()
    if function.module == "env" or (function.module, function.name) == ("wasi_snapshot_preview1", "clock_time_get")
    if all(kind == "i32" for kind in function.wasm_params) or function.name == "clock_time_get"
    if not function.name.startswith(("emscripten", "pthread"))
)
NUMBERS = {function.name: number for number, function in enumerate(FUNCTIONS)}

TABLE = 256
OUT = 0x1000
STRINGS = 0x2000
PROGRAMS = 0x10000
RECORDS = 0x40000
RECORDS_END = 0x80000
HEAP = 0x80000
MEMORY = 0x100000
OP_WORDS = 14


@dataclass(frozen=True)
class Op:
    """One host call."""

    function: str
    args: tuple[int, ...]

    def words(self) -> bytes:
        padded = (NUMBERS[self.function], *self.args, *(0,) * OP_WORDS)[:OP_WORDS]
        return struct.pack(f"<{OP_WORDS}I", *(word & 0xFFFFFFFF for word in padded))


@dataclass(frozen=True)
class Program:
    """What a callback calls, and what it answers."""

    ops: tuple[Op, ...] = ()
    answer: int = 0


@dataclass
class Strings:
    """Byte strings in the plugin's memory, by value."""

    data: bytearray = field(default_factory=bytearray)

    def place(self, value: bytes) -> tuple[int, int]:
        found = self.data.find(value) if value else 0
        if found < 0:
            found = len(self.data)
            self.data += value
        return STRINGS + found, len(value)


def install(plugin: Plugin, programs: dict[str, Program], strings: Strings) -> None:
    """Give the plugin its programs, and an empty page for its records."""
    memory = plugin.vm.memory
    memory.write(STRINGS, bytes(strings.data))
    place = PROGRAMS
    for index, name in enumerate(CALLBACKS):
        program = programs.get(name, Program(answer=int(name == "proxy_on_done")))
        code = struct.pack("<2I", len(program.ops), program.answer & 0xFFFFFFFF)
        code += b"".join(op.words() for op in program.ops)
        memory.write(place, code)
        memory.write_u32(TABLE + 4 * index, place)
        place += len(code)
    assert place <= RECORDS
    forget(plugin)


def forget(plugin: Plugin) -> None:
    """Empty the page for records."""
    plugin.vm.memory.write_u32(TABLE - 4, RECORDS)


def records(plugin: Plugin) -> bytes:
    """What the plugin wrote down: per call its function, answer, two words it was handed, and the bytes there."""
    memory = plugin.vm.memory
    return memory.read(RECORDS, memory.read_u32(TABLE - 4) - RECORDS)


@functools.cache
def interpreter() -> bytes:
    """The plugin as WAT."""
    pointer = "".join(f"\\{byte:02x}" for byte in RECORDS.to_bytes(4, "little"))
    imports = "\n".join(
        f'(import "{f.module}" "{f.name}" (func ${f.name} (param {" ".join(f.wasm_params)}) (result i32)))'
        if f.wasm_params
        else f'(import "{f.module}" "{f.name}" (func ${f.name} (result i32)))'
        for f in FUNCTIONS
    )
    return f"""(module
{imports}
(memory (export "memory") {MEMORY >> 16})
(data (i32.const {TABLE - 4}) "{pointer}")
(global $heap (mut i32) (i32.const {HEAP}))
(global $allocating (mut i32) (i32.const 0))
(func (export "proxy_abi_version_0_2_100"))
(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
{_RECORD}
(func $call (param $op i32) (result i32)
{_dispatch()})
{_RUN}
{_callbacks()}
)""".encode()


def _dispatch() -> str:
    labels = " ".join(f"$f{index}" for index in range(len(FUNCTIONS)))
    lines = [f"(block $f{index}" for index in reversed(range(len(FUNCTIONS)))]
    lines.append(f"(br_table {labels} (i32.load (local.get $op)))")
    for function in FUNCTIONS:
        args = []
        for place, kind in enumerate(function.wasm_params):
            load = f"(i32.load offset={4 + 4 * place} (local.get $op))"
            args.append(load if kind == "i32" else f"(i64.extend_i32_u {load})")
        lines.append(f") (return (call ${function.name} {' '.join(args)}))")
    return "\n".join(lines) + "\n(unreachable)"


_RECORD = f"""
(func $put (param $word i32)
  (local $at i32)
  (local.set $at (i32.load (i32.const {TABLE - 4})))
  (if (i32.ge_u (local.get $at) (i32.const {RECORDS_END - 4096})) (then (return)))
  (i32.store (local.get $at) (local.get $word))
  (i32.store (i32.const {TABLE - 4}) (i32.add (local.get $at) (i32.const 4))))
(func $put_bytes (param $from i32) (param $size i32)
  (local $at i32)
  (local.set $at (i32.load (i32.const {TABLE - 4})))
  (if (i32.ge_u (local.get $at) (i32.const {RECORDS_END - 4096})) (then (return)))
  (if (i32.gt_u (local.get $size) (i32.const 1024)) (then (local.set $size (i32.const 1024))))
  (memory.copy (local.get $at) (local.get $from) (local.get $size))
  (i32.store (i32.const {TABLE - 4}) (i32.add (local.get $at) (local.get $size))))
"""

_RUN = f"""
(func $run (param $callback i32) (result i32)
  (local $program i32) (local $op i32) (local $left i32)
  (local.set $program (i32.load offset={TABLE} (i32.shl (local.get $callback) (i32.const 2))))
  (call $put (i32.or (local.get $callback) (i32.const 0xca110000)))
  (local.set $op (i32.add (local.get $program) (i32.const 8)))
  (local.set $left (i32.load (local.get $program)))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $left)))
    (i64.store (i32.const {OUT}) (i64.const 0))
    (call $put (i32.load (local.get $op)))
    (call $put (call $call (local.get $op)))
    (call $put (i32.load offset=4 (i32.const {OUT})))
    ;; An answer's bytes: where it lies is the allocator's business.
    (if (i32.and
          (i32.ge_u (i32.load (i32.const {OUT})) (i32.const {HEAP}))
          (i32.lt_u (i32.load (i32.const {OUT})) (i32.const {MEMORY - 4096})))
      (then (call $put_bytes (i32.load (i32.const {OUT})) (i32.load offset=4 (i32.const {OUT}))))
      (else (call $put (i32.load (i32.const {OUT})))))
    (local.set $op (i32.add (local.get $op) (i32.const {4 * OP_WORDS})))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br $next)))
  (i32.load offset=4 (local.get $program)))
(func (export "malloc") (param $size i32) (result i32)
  (local $address i32)
  (if (i32.and (i32.eqz (global.get $allocating)) (i32.ne (i32.load (i32.load (i32.const {TABLE + 40}))) (i32.const 0)))
    (then
      (global.set $allocating (i32.const 1))
      (drop (call $run (i32.const 10)))
      (global.set $allocating (i32.const 0))
      ;; What the allocator answers is its program's: 0 and addresses beyond the memory are among it.
      (if (i32.load offset=4 (i32.load (i32.const {TABLE + 40})))
        (then (return (i32.sub (i32.load offset=4 (i32.load (i32.const {TABLE + 40}))) (i32.const 1)))))))
  (local.set $address (global.get $heap))
  (if (i32.gt_u (i32.add (local.get $address) (local.get $size)) (i32.const {MEMORY}))
    (then (local.set $address (i32.const {HEAP}))))
  (global.set $heap (i32.and (i32.add (i32.add (local.get $address) (local.get $size)) (i32.const 7)) (i32.const -8)))
  (local.get $address))
"""


def _callbacks() -> str:
    lines = []
    for index, name in enumerate(CALLBACKS[:-1]):
        function = abi.callbacks(abi.V0_2_100)[name]
        params = f"(param {' '.join(function.wasm_params)})"
        run = f"(call $run (i32.const {index}))"
        body = f"(result i32) {run}" if function.result else f"(drop {run})"
        lines.append(f'(func (export "{name}") {params} {body})')
    return "\n".join(lines)
