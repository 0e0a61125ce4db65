"""Redis call-outs (Higress)."""

from __future__ import annotations

from labkit.proxywasm.contexts import PluginContext
from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def redis_init(
    vm: Vm,
    cluster: int,
    cluster_size: int,
    username: int,
    username_size: int,
    password: int,
    password_size: int,
    timeout: int,
) -> int:
    """Say how to log in to a Redis cluster; the handlers here need no login."""
    name = vm.memory.read(cluster, cluster_size).decode(errors="replace")
    vm.memory.read(username, username_size)
    vm.memory.read(password, password_size)
    return Status.OK if name.partition("?")[0] in vm.host.clusters else Status.BAD_ARGUMENT


def redis_call(vm: Vm, cluster: int, cluster_size: int, query: int, query_size: int, token: int) -> int:
    """Send a query in Redis' wire format."""
    name = vm.memory.read(cluster, cluster_size).decode(errors="replace")
    content = vm.memory.read(query, query_size)
    vm.memory.write_u32(token, 0)
    root = vm.context.root
    if not isinstance(root, PluginContext):
        return Status.UNIMPLEMENTED
    started = root.callouts.redis(name, content)
    if isinstance(started, Status):
        return started
    vm.memory.write_u32(token, started)
    return Status.OK
