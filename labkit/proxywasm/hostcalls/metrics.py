"""Metrics."""

from __future__ import annotations

from labkit.proxywasm.enums import MetricType, Status
from labkit.proxywasm.shared import Metric
from labkit.proxywasm.vm import Vm

_KIND_MASK = 3
_U64 = 0xFFFFFFFFFFFFFFFF


def define_metric(vm: Vm, kind: int, name: int, name_size: int, metric: int) -> int:
    """Define a counter, gauge or histogram."""
    text = vm.memory.read(name, name_size).decode(errors="replace")
    if kind > MetricType.HISTOGRAM:
        return Status.BAD_ARGUMENT
    vm.memory.write_u32(metric, vm.host.metrics.define(MetricType(kind), text))
    return Status.OK


def increment_metric(vm: Vm, metric: int, offset: int) -> int:
    """Add to a counter or gauge; a counter does not go down."""
    signed = offset - (1 << 64) if offset >> 63 else offset
    found = _find(vm, metric, histogram=False)
    if isinstance(found, Status):
        return found
    if found.kind is MetricType.COUNTER and signed <= 0:
        return Status.BAD_ARGUMENT
    found.value = (found.value + signed) & _U64
    return Status.OK


def record_metric(vm: Vm, metric: int, value: int) -> int:
    """Set a gauge, add to a counter, or add a sample to a histogram."""
    found = vm.host.metrics.find(metric)
    if found is None:
        return Status.NOT_FOUND
    if found.kind is MetricType.HISTOGRAM:
        found.samples.append(value)
    elif found.kind is MetricType.GAUGE:
        found.value = value
    else:
        found.value = (found.value + value) & _U64
    return Status.OK


def get_metric(vm: Vm, metric: int, value: int) -> int:
    """The value of a counter or gauge."""
    found = _find(vm, metric, histogram=False)
    if isinstance(found, Status):
        return found
    vm.memory.write_u64(value, found.value)
    return Status.OK


def _find(vm: Vm, metric: int, *, histogram: bool) -> Metric | Status:
    """The metric, NotFound, or BadArgument for a kind that the call is not meant for."""
    if metric & _KIND_MASK not in (MetricType.COUNTER, MetricType.GAUGE) and not histogram:
        return Status.BAD_ARGUMENT
    return vm.host.metrics.find(metric) or Status.NOT_FOUND
