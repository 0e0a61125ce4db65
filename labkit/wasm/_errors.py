"""What can be wrong with a wasm binary."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.errors import LabkitError


class WasmError(LabkitError):
    """A wasm binary cannot be used."""


class MalformedModule(WasmError):
    """The bytes are no valid WebAssembly module.

    Attributes:
        offset: The byte at which reading stopped making sense.
    """

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(
            f"not a valid wasm module: {problem} (byte {offset})",
            hint="compile it again; was the file cut short while it was copied, or is it something else?",
        )
        self.problem = problem
        self.offset = offset


class AbiMarkerError(WasmError):
    """The module does not say, or not clearly, which version of the proxy-wasm ABI it speaks."""


class UnsupportedImports(WasmError):
    """The module calls host functions that this Envoy does not have, so it cannot be linked there.

    Attributes:
        imports: The functions, each as `module.name`.
    """

    def __init__(self, imports: Sequence[str], *, higress_only: Sequence[str] = ()) -> None:
        listed = ", ".join(imports)
        why = "upstream Envoy has no such host functions"
        if higress_only:
            why += f" ({', '.join(higress_only)}: only Higress' own Envoy has them)"
        super().__init__(
            f"the module imports {listed}",
            hint=f"{why}: write the plugin without them, or run it on a real Higress gateway",
        )
        self.imports = tuple(imports)
        self.higress_only = tuple(higress_only)
