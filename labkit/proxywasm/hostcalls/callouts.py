"""HTTP and gRPC call-outs. They belong to the plugin's context, whichever context asks for them."""

from __future__ import annotations

from labkit.proxywasm.callouts import grpc_cluster
from labkit.proxywasm.contexts import PluginContext
from labkit.proxywasm.enums import Status
from labkit.proxywasm.handlers import GrpcRequest
from labkit.proxywasm.headers import to_pairs
from labkit.proxywasm.hostcalls.headers import read_pairs
from labkit.proxywasm.messages import Headers
from labkit.proxywasm.vm import Vm


def http_call(
    vm: Vm,
    cluster: int,
    cluster_size: int,
    headers: int,
    headers_size: int,
    body: int,
    body_size: int,
    trailers: int,
    trailers_size: int,
    timeout: int,
    token: int,
) -> int:
    """Start an HTTP call."""
    memory = vm.memory
    name = memory.read(cluster, cluster_size).decode(errors="replace")
    content = memory.read(body, body_size)
    header_pairs = read_pairs(vm, headers, headers_size, "proxy_http_call", "headers")
    trailer_pairs = read_pairs(vm, trailers, trailers_size, "proxy_http_call", "trailers")
    # The token is written first, so that a bad pointer is found before the call is made.
    memory.write_u32(token, 0)
    root = vm.context.root
    if not isinstance(root, PluginContext):
        return Status.UNIMPLEMENTED
    started = root.callouts.http(name, header_pairs, content, trailer_pairs, timeout)
    if isinstance(started, Status):
        return started
    memory.write_u32(token, started)
    return Status.OK


def grpc_call(
    vm: Vm,
    cluster: int,
    cluster_size: int,
    service: int,
    service_size: int,
    method: int,
    method_size: int,
    metadata: int,
    metadata_size: int,
    message: int,
    message_size: int,
    timeout: int,
    token: int,
) -> int:
    """Start a unary gRPC call."""
    target = vm.memory.read(cluster, cluster_size)
    request = _grpc_request(
        vm, target, (service, service_size), (method, method_size), (metadata, metadata_size), timeout
    )
    content = vm.memory.read(message, message_size)
    root = vm.context.root
    if not isinstance(root, PluginContext):
        return Status.UNIMPLEMENTED
    full = GrpcRequest(request.cluster, request.service, request.method, request.metadata, content, request.timeout)
    return _started(vm, root.callouts.grpc(target, full, timeout), token)


def grpc_stream(
    vm: Vm,
    cluster: int,
    cluster_size: int,
    service: int,
    service_size: int,
    method: int,
    method_size: int,
    metadata: int,
    metadata_size: int,
    token: int,
) -> int:
    """Start a gRPC stream."""
    target = vm.memory.read(cluster, cluster_size)
    request = _grpc_request(vm, target, (service, service_size), (method, method_size), (metadata, metadata_size), 0)
    root = vm.context.root
    if not isinstance(root, PluginContext):
        return Status.UNIMPLEMENTED
    return _started(vm, root.callouts.grpc_stream(target, request), token)


def _grpc_request(
    vm: Vm,
    target: bytes,
    service: tuple[int, int],
    method: tuple[int, int],
    metadata: tuple[int, int],
    timeout: int,
) -> GrpcRequest:
    pairs = read_pairs(vm, *metadata, "proxy_grpc_call", "metadata")
    return GrpcRequest(
        cluster=grpc_cluster(target) or target.decode(errors="replace"),
        service=vm.memory.read(*service).decode(errors="replace"),
        method=vm.memory.read(*method).decode(errors="replace"),
        metadata=Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in to_pairs(pairs)]),
        timeout=timeout / 1e3 or None,
    )


def _started(vm: Vm, started: int | Status, token: int) -> int:
    if isinstance(started, Status):
        return started
    vm.memory.write_u32(token, started)
    return Status.OK


def grpc_send(vm: Vm, token: int, message: int, message_size: int, end_of_stream: int) -> int:
    """Send a message on a gRPC stream."""
    content = vm.memory.read(message, message_size)
    root = vm.context.root
    if not isinstance(root, PluginContext):
        return Status.UNIMPLEMENTED
    return root.callouts.send(token, content, bool(end_of_stream))


def grpc_cancel(vm: Vm, token: int) -> int:
    """Cancel a gRPC call, or reset a stream."""
    root = vm.context.root
    return root.callouts.cancel(token) if isinstance(root, PluginContext) else Status.UNIMPLEMENTED


def grpc_close(vm: Vm, token: int) -> int:
    """Close a gRPC stream, or cancel a call."""
    root = vm.context.root
    return root.callouts.close(token) if isinstance(root, PluginContext) else Status.UNIMPLEMENTED


def get_status(vm: Vm, code: int, message: int, message_size: int) -> int:
    """Code and message of the call-out being answered."""
    root = vm.context.root
    number, text = root.status if isinstance(root, PluginContext) else (0, "")
    vm.memory.write_u32(code, number)
    vm.answer(text.encode(), message, message_size)
    return Status.OK
