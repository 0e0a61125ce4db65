"""Actions on a stream: reply, continue, close; and Higress' additions."""

from __future__ import annotations

from labkit.proxywasm import headers
from labkit.proxywasm.enums import Status, StreamType
from labkit.proxywasm.hostcalls.headers import read_pairs
from labkit.proxywasm.vm import Vm


def send_local_response(
    vm: Vm,
    status: int,
    details: int,
    details_size: int,
    body: int,
    body_size: int,
    pairs: int,
    pairs_size: int,
    grpc_status: int,
) -> int:
    """Answer the request from here."""
    memory = vm.memory
    details_text = memory.read(details, details_size).decode(errors="replace")
    body_bytes = memory.read(body, body_size)
    added = read_pairs(vm, pairs, pairs_size, "proxy_send_local_response", "headers")
    signed = grpc_status - (1 << 32) if grpc_status >> 31 else grpc_status
    vm.context.send_local_response(status, details_text, body_bytes, added, signed)
    vm.stop_iteration = True
    return Status.OK


def continue_stream(vm: Vm, stream: int) -> int:
    """Go on with a direction that was paused."""
    if stream > StreamType.UPSTREAM:
        return Status.BAD_ARGUMENT
    return vm.context.continue_stream(StreamType(stream))


def close_stream(vm: Vm, stream: int) -> int:
    """Reset the stream or close the connection."""
    if stream > StreamType.UPSTREAM:
        return Status.BAD_ARGUMENT
    return vm.context.close_stream(StreamType(stream))


def continue_request(vm: Vm) -> int:
    """Go on with the request (ABI 0.1.0)."""
    return vm.context.continue_stream(StreamType.REQUEST)


def continue_response(vm: Vm) -> int:
    """Go on with the response (ABI 0.1.0)."""
    return vm.context.continue_stream(StreamType.RESPONSE)


def clear_route_cache(vm: Vm) -> int:
    """Let the route be chosen anew (ABI 0.1.0)."""
    vm.context.request_headers_changed()
    return Status.OK


def inject_encoded_data_to_filter_chain(vm: Vm, body: int, body_size: int, end_of_stream: int) -> int:
    """Send data downstream past this plugin (Higress)."""
    vm.context.inject_encoded_data(vm.memory.read(body, body_size), bool(end_of_stream))
    return Status.OK


def get_upstream_hosts(vm: Vm, pairs: int, size: int) -> int:
    """Addresses of the cluster's hosts, each with facts about it as JSON (Higress)."""
    info = vm.context.info
    hosts = info.upstream_hosts if info is not None else []
    vm.answer(headers.serialize(hosts) if hosts else b"", pairs, size)
    return Status.OK


def set_upstream_override_host(vm: Vm, address: int, size: int) -> int:
    """Choose the cluster's host for this request (Higress)."""
    host = vm.memory.read(address, size)
    if (info := vm.context.info) is not None:
        info.override_host = host.decode(errors="replace")
    return Status.OK
