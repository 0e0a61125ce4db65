"""Envoy's foreign functions, as far as they make sense without an Envoy around them.

Left out, and so answered NotFound as by an Envoy built without them: `expr_create`, `expr_evaluate`, `expr_delete`
(CEL), `sign`, `verify_signature`.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from labkit.proxywasm import proto
from labkit.proxywasm.enums import Status

if TYPE_CHECKING:
    from labkit.proxywasm.host import ForeignFunction
    from labkit.proxywasm.vm import Vm

_MAX_UNCOMPRESSED = 64 << 20


def compress(vm: Vm, data: bytes) -> bytes | Status:
    """Compress with zlib."""
    return zlib.compress(data)


def uncompress(vm: Vm, data: bytes) -> bytes | Status:
    """Uncompress what zlib compressed."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, _MAX_UNCOMPRESSED)
    except zlib.error:
        return Status.SERIALIZATION_FAILURE
    return content if unpacker.eof else Status.SERIALIZATION_FAILURE


def clear_route_cache(vm: Vm, data: bytes) -> bytes | Status:
    """Let the route be chosen anew."""
    vm.context.request_headers_changed()
    return b""


def declare_property(vm: Vm, data: bytes) -> bytes | Status:
    """Announce a property's type and life span; values here are bytes that live as long as the stream."""
    return b""


def set_envoy_filter_state(vm: Vm, data: bytes) -> bytes | Status:
    """Set a filter state object from its path and value (`SetEnvoyFilterStateArguments`)."""
    fields = proto.fields(data)
    info = vm.context.info
    if info is None or fields is None or 1 not in fields:
        return Status.BAD_ARGUMENT
    info.properties[f"filter_state.{fields[1].decode(errors='replace')}"] = fields.get(2, b"")
    return b""


FUNCTIONS: dict[str, ForeignFunction] = {
    "clear_route_cache": clear_route_cache,
    "compress": compress,
    "declare_property": declare_property,
    "set_envoy_filter_state": set_envoy_filter_state,
    "uncompress": uncompress,
}
"""What a `Host` knows unless it is told otherwise."""
