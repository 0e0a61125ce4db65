"""Reading and rewriting wasm binaries, as far as a gateway's agent and a proxy-wasm host need it."""

from labkit.wasm._errors import AbiMarkerError, MalformedModule, UnsupportedImports, WasmError
from labkit.wasm.abi import (
    HIGRESS_ABI,
    HIGRESS_ONLY,
    UPSTREAM_ABIS,
    Fitted,
    abi_version,
    abi_versions,
    fit,
    host_functions,
)
from labkit.wasm.module import MAGIC, Export, ExternalKind, Import, Memory, Module, Section, SectionId

__all__ = [
    "HIGRESS_ABI",
    "HIGRESS_ONLY",
    "MAGIC",
    "UPSTREAM_ABIS",
    "AbiMarkerError",
    "Export",
    "ExternalKind",
    "Fitted",
    "Import",
    "MalformedModule",
    "Memory",
    "Module",
    "Section",
    "SectionId",
    "UnsupportedImports",
    "WasmError",
    "abi_version",
    "abi_versions",
    "fit",
    "host_functions",
]
