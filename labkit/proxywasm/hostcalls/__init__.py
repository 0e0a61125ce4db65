"""The host functions, one module for each group of the ABI's table.

A handler takes the VM and the raw Wasm arguments, unsigned, and returns the raw result. What it does is what Envoy
does, in Envoy's order: which argument is checked first decides which status a plugin sees. `OutOfBounds` may be
raised anywhere; the linker turns it into the status for invalid memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from labkit.proxywasm.abi import Function

Handler = Callable[..., int]
"""(vm, *arguments) → result."""


def implementation(function: Function) -> Handler:
    """The handler of a host function."""
    module = importlib.import_module(f"{__name__}.{function.group}")
    handler: Handler = getattr(module, function.short_name)
    return handler
