"""A plugin made from the ABI's table that calls any host function a test asks for, with any arguments."""

from __future__ import annotations

from collections.abc import Iterable

import wasmtime

from labkit.proxywasm import Host, HttpStream, Limits, Plugin, Trap, abi, headers
from labkit.proxywasm._native import Export
from labkit.proxywasm.contexts import Context

ALLOCATOR = """
  (func (export "malloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (block (br_if 0 (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
      (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16)))))))
"""
SCRATCH = 256
HEAP = 32768


def marker(version: str) -> str:
    return f'(func (export "proxy_abi_version_{version.replace(".", "_")}"))'


def probe_wat(
    version: str = abi.V0_2_100,
    functions: Iterable[abi.Function] | None = None,
    callbacks: dict[str, str] | None = None,
    extra: str = "",
) -> str:
    """A module that exports each host function again as `x_NAME`, and callbacks that do `callbacks[name]`."""
    functions = list(abi.host_functions(version).values()) if functions is None else list(functions)
    functions = [f for f in functions if f.module != "wasi_unstable"]
    imports, wrappers, exports = [], [], []
    for function in functions:
        params = "".join(f" (param {kind})" for kind in function.wasm_params)
        results = "".join(f" (result {kind})" for kind in function.wasm_results)
        args = "".join(f" (local.get {index})" for index in range(len(function.wasm_params)))
        imports.append(f'(import "{function.module}" "{function.name}" (func ${function.name}{params}{results}))')
        wrappers.append(f'(func (export "x_{function.name}"){params}{results} (call ${function.name}{args}))')
    bodies = callbacks or {}
    defaults = {"proxy_on_vm_start": "(i32.const 1)", "proxy_on_configure": "(i32.const 1)"}
    defaults |= {"proxy_on_done": "(i32.const 1)", "proxy_on_context_create": ""}
    for name, body in (defaults | bodies).items():
        function = abi.callbacks(version)[name]
        params = "".join(f" (param {kind})" for kind in function.wasm_params)
        results = "".join(f" (result {kind})" for kind in function.wasm_results)
        exports.append(f'(func (export "{name}"){params}{results} {body})')
    nl = "\n  "
    return f"""(module
  {nl.join(imports)}
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const {HEAP}))
  {marker(version)}
  {ALLOCATOR}
  {nl.join(wrappers)}
  {nl.join(exports)}
  {extra})"""


class Probe:
    """A loaded probe; `call` calls a host function on behalf of a context."""

    def __init__(
        self,
        *,
        version: str = abi.V0_2_100,
        host: Host | None = None,
        callbacks: dict[str, str] | None = None,
        functions: Iterable[abi.Function] | None = None,
        limits: Limits | None = None,
        config: str = "config",
        vm_config: str = "vm config",
        vm_id: str = "vm",
        env: dict[str, str] | None = None,
        name: str = "probe",
    ) -> None:
        functions = None if functions is None else list(functions)
        code = wasmtime.wat2wasm(probe_wat(version, functions, callbacks))
        self.host = host or Host()
        self.plugin = Plugin.load(
            bytes(code),
            host=self.host,
            config=config,
            vm_config=vm_config,
            vm_id=vm_id,
            env=env,
            root_id="root",
            name=name,
            limits=limits,
        )
        vm = self.plugin.vm
        self.vm = vm
        for function in vm.module.imports:
            exported = vm.instance.exports(vm.store)[f"x_{function.name}"]
            assert isinstance(exported, wasmtime.Func)
            vm.exports[f"x_{function.name}"] = Export(f"x_{function.name}", exported, function.wasm_params)
        self._scratch = SCRATCH

    def raw(self, name: str, *args: int, context: Context | None = None) -> int:
        """Call with raw arguments; the raw result. What the call deferred runs afterwards."""
        words = self.vm.exports[f"x_{name}"].words
        for index, value in enumerate(args):
            words[4 * index + 1] = value >> 32
        try:
            return self.vm.run(f"x_{name}", context or self.plugin.context, *args)
        finally:
            self.vm.run_deferred()

    def put(self, data: bytes | str) -> tuple[int, int]:
        """Write data into the plugin's memory; its address and size."""
        content = data.encode() if isinstance(data, str) else data
        address = self._scratch
        self._scratch = (self._scratch + len(content) + 15) // 8 * 8
        assert self._scratch < HEAP
        self.vm.memory.write(address, content)
        return address, len(content)

    def call(self, name: str, *values: object, context: Context | None = None) -> tuple[int, ...]:
        """Call with logical arguments; (result, answer, …)."""
        function = next(f for f in self.vm.module.imports if f.name == name)
        given = list(values)
        args: list[int] = []
        outs = []
        for parameter in function.params:
            if parameter.out:
                outs.append((parameter, [self.put(b"\xee" * 8)[0] for _ in parameter.wasm_types]))
                args += outs[-1][1]
            elif parameter.kind in ("bytes", "str", "pairs"):
                value = given.pop(0)
                data = headers.serialize(headers.to_pairs(value)) if parameter.kind == "pairs" and value else value
                args += self.put(data or b"")
            else:
                args.append(int(given.pop(0)))
        assert not given, f"too many arguments for {name}"
        result = self.raw(name, *args, context=context)
        answers = [self._answer(p, words) for p, words in outs] if result == 0 else []
        self._scratch = SCRATCH
        return (result, *answers)

    def _answer(self, parameter: abi.Parameter, words: list[int]) -> object:
        memory = self.vm.memory
        if parameter.kind in ("bytes", "str", "pairs"):
            data = memory.read(memory.read_u32(words[0]), memory.read_u32(words[1]))
            return headers.parse(data) if parameter.kind == "pairs" and data else data
        return memory.read_u64(words[0]) if parameter.kind == "u64" else memory.read_u32(words[0])

    def stream(self) -> HttpStream:
        return self.plugin.stream()

    def failure(self) -> Trap | None:
        return self.vm.failure
