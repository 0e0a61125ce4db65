"""Contexts: acting on behalf of another one, and deferred shutdown."""

from __future__ import annotations

from labkit.proxywasm.contexts import PluginContext
from labkit.proxywasm.enums import Status
from labkit.proxywasm.vm import Vm


def set_effective_context(vm: Vm, context_id: int) -> int:
    """Let the host calls that follow in this callback act on another context."""
    context = vm.contexts.get(context_id)
    if context is None:
        return Status.BAD_ARGUMENT
    # The VM's own context stands for "none": the calls act on the context that is really running.
    vm.context = context if context_id else vm.current
    return Status.OK


def done(vm: Vm) -> int:
    """A plugin whose `proxy_on_done` answered false says that it is done now."""
    root = vm.context
    if not isinstance(root, PluginContext) or not root.done_pending:
        return Status.NOT_FOUND
    vm.after_call(root.finish)
    return Status.OK
