"""Every call between host and plugin, with decoded arguments, result and time.

    with plugin.trace() as trace:
        plugin.request("GET", "http://example.com/")
    trace                      # a table in a notebook
    pandas.DataFrame(trace.rows())
    trace.save_chrome("trace.json")    # chrome://tracing, Perfetto

While nothing is traced, the calls cost one comparison more than without this module.
"""

from __future__ import annotations

import html
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.proxywasm import headers
from labkit.proxywasm.abi import ENUMS, Function, Parameter
from labkit.proxywasm.memory import Memory, OutOfBounds

if TYPE_CHECKING:
    from labkit.proxywasm.vm import Vm

_SHOWN = 256


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        function: Name, as in the ABI.
        kind: `callback` when the host called the plugin, `host` when the plugin called the host.
        context: Id of the context on whose behalf it ran.
        depth: How many calls it is nested in.
        args: Decoded arguments that went in, by name.
        answers: Decoded values that the host answered through pointers.
        result: Decoded result; None for a function without one, or one that did not return.
        start: Microseconds since the trace began.
        microseconds: How long it took, with everything nested in it.
        error: What ended it instead of a return.
        plugin: Name of the plugin's module.
    """

    function: str
    kind: str
    context: int
    depth: int
    args: dict[str, Any]
    start: float
    plugin: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    microseconds: float = 0.0
    error: str | None = None

    def __str__(self) -> str:
        args = ", ".join(f"{name}={_shown(value)}" for name, value in self.args.items())
        answers = "".join(f" {name}={_shown(value)}" for name, value in self.answers.items())
        outcome = f" !! {self.error}" if self.error else (f" → {self.result}" if self.result is not None else "")
        return f"{'  ' * self.depth}{self.function}({args}){outcome}{answers}"


class Trace:
    """A recording; also the observer that makes it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._depth = 0
        self._began = time.perf_counter_ns()

    def callback(self, vm: Vm, function: Function, args: list[int], run: Callable[..., int]) -> int:
        """A callback begins."""
        return self._record(vm, function, "callback", args, run)

    def host_call(self, vm: Vm, function: Function, args: list[int], run: Callable[..., int]) -> int:
        """A host function begins."""
        return self._record(vm, function, "host", args, run)

    def _record(self, vm: Vm, function: Function, kind: str, args: list[int], run: Callable[..., int]) -> int:
        decoded = decode_arguments(vm.memory, function, args)
        context = args[0] if kind == "callback" else vm.context.id
        call = Call(function.name, kind, context, self._depth, decoded, 0.0, vm.module.name)
        self.calls.append(call)
        self._depth += 1
        start = time.perf_counter_ns()
        try:
            result = run(*args)
        except BaseException as error:
            call.error = str(error)
            raise
        finally:
            end = time.perf_counter_ns()
            self._depth -= 1
            call.start = (start - self._began) / 1e3
            call.microseconds = (end - start) / 1e3
        call.result = decode_result(function, result)
        if kind == "host":
            call.answers = decode_answers(vm.memory, function, args, result)
        return result

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __str__(self) -> str:
        return "\n".join(map(str, self.calls))

    def rows(self) -> list[dict[str, Any]]:
        """One flat dictionary a call: `pandas.DataFrame(trace.rows())`."""
        return [
            {
                "start_us": round(call.start, 3),
                "us": round(call.microseconds, 3),
                "depth": call.depth,
                "kind": call.kind,
                "function": call.function,
                "context": call.context,
                "args": call.args,
                "result": call.result,
                "answers": call.answers,
                "error": call.error,
                "plugin": call.plugin,
            }
            for call in self.calls
        ]

    def chrome(self) -> dict[str, Any]:
        """The trace in Chrome's trace event format; JSON values only."""
        events = [
            {
                "name": call.function.removeprefix("proxy_"),
                "cat": call.kind,
                "ph": "X",
                "ts": call.start,
                "dur": call.microseconds,
                "pid": 1,
                "tid": 1,
                "args": _plain({**call.args, **call.answers, "result": call.result, "context": call.context}),
            }
            for call in self.calls
        ]
        return {"traceEvents": events, "displayTimeUnit": "ns"}

    def save_chrome(self, path: str | os.PathLike[str]) -> None:
        """Write the trace for chrome://tracing or Perfetto."""
        target = os.fspath(path)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(target)), prefix=".trace-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.chrome(), file)
        os.replace(temporary, target)

    def _repr_html_(self) -> str:
        rows = []
        for call in self.calls:
            outcome = call.error if call.error else ("" if call.result is None else str(call.result))
            bad = call.error or (call.kind == "host" and outcome not in ("", "OK", "0"))
            cells = (
                f"<td style='text-align:right'>{call.microseconds:.0f}</td>",
                f"<td style='text-align:left;padding-left:{8 + 20 * call.depth}px'>"
                f"{'<b>' if call.kind == 'callback' else ''}{html.escape(call.function.removeprefix('proxy_'))}"
                f"{'</b>' if call.kind == 'callback' else ''}</td>",
                f"<td style='text-align:left'><code>{_html_values(call.args)}</code></td>",
                f"<td style='text-align:left{';color:#b00' if bad else ''}'>{html.escape(outcome)}</td>",
                f"<td style='text-align:left'><code>{_html_values(call.answers)}</code></td>",
            )
            rows.append(f"<tr>{''.join(cells)}</tr>")
        heads = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("µs", "call", "in", "result", "out"))
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _html_values(values: Mapping[str, Any]) -> str:
    return html.escape(", ".join(f"{name}={_shown(value)}" for name, value in values.items()))


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(value)})"


def _plain(value: Any) -> Any:
    """JSON values only."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _positions(function: Function) -> Iterator[tuple[Parameter, int]]:
    position = 0
    for parameter in function.params:
        yield parameter, position
        position += len(parameter.wasm_types)


def decode_arguments(memory: Memory, function: Function, args: list[int]) -> dict[str, Any]:
    """What goes in, by name; output pointers are left out."""
    return {
        parameter.name: _decode(memory, parameter, args[position : position + 2])
        for parameter, position in _positions(function)
        if not parameter.out
    }


def decode_answers(memory: Memory, function: Function, args: list[int], result: int) -> dict[str, Any]:
    """What the host wrote through pointers, when it succeeded."""
    if result or function.result not in ("status", "errno"):
        return {}
    answers = {}
    for parameter, position in _positions(function):
        if parameter.out:
            try:
                answers[parameter.name] = _decode_answer(memory, parameter, args[position : position + 2])
            except OutOfBounds:
                answers[parameter.name] = "<outside the memory>"
    return answers


def decode_result(function: Function, result: int) -> Any:
    """A result by its name where it has one."""
    if function.result is None:
        return None
    enum = ENUMS.get(function.result)
    if enum is not None and result in enum.__members__.values():
        return enum(result).name
    return bool(result) if function.result == "bool" else result


def _decode(memory: Memory, parameter: Parameter, words: list[int]) -> Any:
    kind = parameter.kind
    if kind in ("bytes", "str", "pairs"):
        try:
            return _decode_data(kind, memory.read(words[0], words[1]))
        except OutOfBounds:
            return f"<outside the memory: {words[0]:#x}+{words[1]}>"
    if kind == "ptr":
        return f"{words[0]:#x}"
    if kind == "i32":
        return words[0] - (1 << 32) if words[0] >> 31 else words[0]
    if kind == "i64":
        return words[0] - (1 << 64) if words[0] >> 63 else words[0]
    if kind == "bool":
        return bool(words[0])
    enum = ENUMS.get(kind)
    if enum is not None and words[0] in enum.__members__.values():
        return enum(words[0]).name
    return words[0]


def _decode_answer(memory: Memory, parameter: Parameter, words: list[int]) -> Any:
    if parameter.kind in ("bytes", "str", "pairs"):
        if not any(words):
            return None
        address, size = memory.read_u32(words[0]), memory.read_u32(words[1])
        return _decode_data(parameter.kind, memory.read(address, size))
    number = memory.read_u64(words[0]) if parameter.kind == "u64" else memory.read_u32(words[0])
    enum = ENUMS.get(parameter.kind)
    return enum(number).name if enum is not None and number in enum.__members__.values() else number


def _decode_data(kind: str, data: bytes) -> Any:
    if kind == "str":
        return data.decode(errors="backslashreplace").replace("\0", ".")
    if kind == "pairs":
        try:
            pairs = headers.parse(data) if data else []
        except headers.MalformedPairs:
            return data
        return [(name.decode("latin-1"), value.decode(errors="backslashreplace")) for name, value in pairs]
    return data
