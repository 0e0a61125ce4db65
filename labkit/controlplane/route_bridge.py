"""The filter that tells plugins the route and the cluster of a request (`route_bridge.wat`)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from envoy.extensions.filters.http.wasm.v3.wasm_pb2 import Wasm
from envoy.extensions.wasm.v3.wasm_pb2 import FAIL_OPEN

NAME = "labkit.route-bridge"
"""The filter's name in the chain."""


@cache
def route_bridge() -> Wasm:
    """The filter's configuration, with the assembled module (under 1 KB) inside."""
    from wasmtime import wat2wasm

    config = Wasm()
    config.config.name = NAME
    # Rules by route would not match without it, but requests still pass.
    config.config.failure_policy = FAIL_OPEN
    vm = config.config.vm_config
    vm.vm_id = NAME
    vm.runtime = "envoy.wasm.runtime.v8"
    source = files("labkit.controlplane").joinpath("route_bridge.wat").read_text(encoding="utf-8")
    vm.code.local.inline_bytes = bytes(wat2wasm(source))
    return config
