"""Tiny plugins made of WAT, for tests that need a module whose behaviour they choose."""

from __future__ import annotations

from pathlib import Path

from wasmtime import wat2wasm

_SOURCE = """
(module
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 16) "{tag}")
  (global $heap (mut i32) (i32.const 65536))
  ;; Every allocation begins with the tag, so that a configuration read into one is a reply's whole body.
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (memory.copy (local.get $at) (i32.const 16) (i32.const {tag_size}))
    (global.set $heap (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const {tag_size}))))
    (i32.add (local.get $at) (i32.const {tag_size})))
  (func (export "{marker}"))
  ;; 1024 + 4 * (context % 256): the parent of a context; 8192 + 8 * (root % 256): its configuration.
  (func $parent (param $context i32) (result i32)
    (i32.add (i32.const 1024) (i32.shl (i32.and (local.get $context) (i32.const 255)) (i32.const 2))))
  (func $config (param $root i32) (result i32)
    (i32.add (i32.const 8192) (i32.shl (i32.and (local.get $root) (i32.const 255)) (i32.const 3))))
  (func (export "proxy_on_context_create") (param $context i32) (param $of i32)
    (i32.store (call $parent (local.get $context)) (local.get $of)))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) {on_vm_start} (i32.const 1))
  (func (export "proxy_on_configure") (param $root i32) (param $size i32) (result i32)
    (drop (call $get_buffer (i32.const 7) (i32.const 0) (local.get $size)
      (call $config (local.get $root)) (i32.add (call $config (local.get $root)) (i32.const 4))))
    {on_configure} (i32.const 1))
  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    (local $at i32)
    {on_request}
    (local.set $at (call $config (i32.load (call $parent (local.get $context)))))
    (drop (call $reply (i32.const 200) (i32.const 0) (i32.const 0)
      (i32.sub (i32.load (local.get $at)) (i32.const {tag_size}))
      (i32.add (i32.load offset=4 (local.get $at)) (i32.const {tag_size}))
      (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1))
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_delete") (param i32)))
"""

_TRAP = "(unreachable)"
# The first byte after `{"` of the configuration is an x: refuse it.
_REFUSE_X = """
    (if (i32.eq (i32.load8_u offset=2 (i32.load (call $config (local.get $root)))) (i32.const 120))
      (then (return (i32.const 0))))"""


def echo(folder: Path, tag: str = "one", marker: str = "proxy_abi_version_0_2_1", **pieces: str) -> Path:
    """A module that answers every request with its tag and its configuration, `one{"a":1}`.

    It refuses configurations whose first key begins with x.
    """
    bodies = {"on_vm_start": "", "on_configure": _REFUSE_X, "on_request": "", **pieces}
    source = _SOURCE
    for name, text in {**bodies, "tag": tag, "tag_size": str(len(tag)), "marker": marker}.items():
        source = source.replace("{" + name + "}", text)
    path = folder / f"{tag}.wasm"
    path.write_bytes(bytes(wat2wasm(source)))
    return path


def does_not_start(folder: Path) -> Path:
    """A module that traps when its VM starts."""
    return echo(folder, "nostart", on_vm_start=_TRAP)


def traps_on_request(folder: Path) -> Path:
    """A module that starts well and traps on each request."""
    return echo(folder, "traps", on_request=_TRAP)


def tells_property(folder: Path, name: str) -> Path:
    """A module that answers every request with a property, `nothing` when there is none."""
    source = f"""
(module
  (import "env" "proxy_get_property" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "{name}")
  (data (i32.const 128) "nothing")
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (call $get (i32.const 16) (i32.const {len(name)}) (i32.const 0) (i32.const 4))
      (then (i32.store (i32.const 0) (i32.const 128)) (i32.store (i32.const 4) (i32.const 7))))
    (drop (call $reply (i32.const 200) (i32.const 0) (i32.const 0)
      (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 1)))
"""
    path = folder / f"{name}.wasm"
    path.write_bytes(bytes(wat2wasm(source)))
    return path
