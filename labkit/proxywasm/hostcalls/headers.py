"""Header maps of requests, responses and call-outs."""

from __future__ import annotations

from labkit.proxywasm import headers
from labkit.proxywasm.abi import V0_1_0
from labkit.proxywasm.enums import MapType, Status
from labkit.proxywasm.errors import PluginError
from labkit.proxywasm.headers import HeaderMap, MalformedPairs, Pair
from labkit.proxywasm.vm import Vm

_LAST = MapType.HTTP_CALL_RESPONSE_TRAILERS


def read_pairs(vm: Vm, address: int, size: int, function: str, argument: str) -> list[Pair]:
    """A serialized map from the plugin's memory; a malformed one counts as empty, as in Envoy, and is reported."""
    data = vm.memory.read(address, size)
    try:
        return headers.parse(data)
    except MalformedPairs as error:
        # No bytes at all is how SDKs pass an empty map.
        if data:
            vm.report(
                PluginError(
                    f"{function}: argument {argument} is a malformed header map: {error}",
                    module=vm.module.name,
                    function=function,
                    argument=argument,
                )
            )
        return []


def _changed(vm: Vm, kind: int) -> int:
    if kind == MapType.REQUEST_HEADERS:
        vm.context.request_headers_changed()
    return Status.OK


def get_header_map_value(vm: Vm, kind: int, key: int, key_size: int, value: int, value_size: int) -> int:
    """The first value of one header."""
    if kind > _LAST:
        return Status.BAD_ARGUMENT
    name = vm.memory.read(key, key_size)
    header_map = vm.context.map(kind)
    found = None
    if header_map is not None:
        found = header_map.get(name)
        if found is None and vm.module.version != V0_1_0:
            return Status.NOT_FOUND
    else:
        missing = vm.context.map_missing()
        if missing is not Status.NOT_FOUND or vm.module.version != V0_1_0:
            return missing
    vm.answer(found or b"", value, value_size)
    return Status.OK


def get_header_map_pairs(vm: Vm, kind: int, pairs: int, size: int) -> int:
    """The whole map; an absent one is an empty one."""
    if kind > _LAST:
        return Status.BAD_ARGUMENT
    header_map = vm.context.map(kind)
    data = headers.serialize(header_map.pairs) if header_map else b""
    vm.answer(data, pairs, size)
    return Status.OK


def get_header_map_size(vm: Vm, kind: int, size_pointer: int) -> int:
    """Bytes of all names and values; Envoy answers only for maps that can be changed."""
    header_map = _mutable(vm, kind)
    if header_map is None:
        return Status.BAD_ARGUMENT
    vm.memory.write_u32(size_pointer, header_map.byte_size())
    return Status.OK


def _mutable(vm: Vm, kind: int) -> HeaderMap | None:
    return vm.context.mutable_map(kind) if kind <= _LAST else None


def add_header_map_value(vm: Vm, kind: int, key: int, key_size: int, value: int, value_size: int) -> int:
    """Append a header."""
    if kind > _LAST:
        return Status.BAD_ARGUMENT
    name, data = vm.memory.read(key, key_size), vm.memory.read(value, value_size)
    header_map = vm.context.mutable_map(kind)
    if header_map is None:
        return Status.BAD_ARGUMENT
    header_map.add(name, data)
    return _changed(vm, kind)


def replace_header_map_value(vm: Vm, kind: int, key: int, key_size: int, value: int, value_size: int) -> int:
    """Remove every occurrence of a header and append it anew."""
    if kind > _LAST:
        return Status.BAD_ARGUMENT
    name, data = vm.memory.read(key, key_size), vm.memory.read(value, value_size)
    header_map = vm.context.mutable_map(kind)
    if header_map is None:
        return Status.BAD_ARGUMENT
    header_map.replace(name, data)
    return _changed(vm, kind)


def remove_header_map_value(vm: Vm, kind: int, key: int, key_size: int) -> int:
    """Remove every occurrence of a header."""
    if kind > _LAST:
        return Status.BAD_ARGUMENT
    name = vm.memory.read(key, key_size)
    header_map = vm.context.mutable_map(kind)
    if header_map is None:
        return Status.BAD_ARGUMENT
    header_map.remove(name)
    return _changed(vm, kind)


def set_header_map_pairs(vm: Vm, kind: int, pairs: int, size: int) -> int:
    """Replace the whole map."""
    if kind > _LAST:
        return Status.BAD_ARGUMENT
    parsed = read_pairs(vm, pairs, size, "proxy_set_header_map_pairs", "pairs")
    header_map = vm.context.mutable_map(kind)
    if header_map is None:
        return Status.BAD_ARGUMENT
    header_map.set_pairs(parsed)
    return _changed(vm, kind)
