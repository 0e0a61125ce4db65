"""A plugin's module: read, checked against the ABI, compiled once, kept on disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import wasmtime

from labkit import wasm
from labkit.errors import UsageError
from labkit.proxywasm import abi
from labkit.proxywasm._engine import Engine, EngineKey, engine_for
from labkit.proxywasm.cache import ModuleCache
from labkit.proxywasm.errors import AbiError, InvalidModule, MissingAllocator, UnknownImports
from labkit.proxywasm.limits import Limits

ModuleSource = str | os.PathLike[str] | bytes
"""Where a module comes from: a path, its bytes, WAT text as bytes, or an image (`oci://…`)."""

_MAGIC = b"\0asm\1\0\0\0"


@dataclass(frozen=True)
class Module:
    """A compiled module that follows the ABI.

    Attributes:
        name: File name, image or `<bytes>`: what errors call it.
        digest: `sha256:…` of its bytes.
        code: The bytes.
        version: Its ABI version.
        compiled: The engine's module.
        engine: The engine that it was compiled for.
        imports: The host functions that it imports.
        callbacks: The callbacks that it exports, by name.
        allocator: The export that allocates memory for the host.
    """

    name: str
    digest: str
    code: bytes
    version: str
    compiled: wasmtime.Module
    engine: Engine
    imports: tuple[abi.Function, ...]
    callbacks: dict[str, abi.Function]
    allocator: str

    @classmethod
    def load(
        cls,
        source: ModuleSource,
        *,
        limits: Limits | None = None,
        cache: ModuleCache | None = None,
        name: str | None = None,
    ) -> Module:
        """Read, check and compile a module, or take it compiled from the cache.

        Raises:
            InvalidModule, AbiError, UnknownImports, MissingAllocator: The module cannot be a plugin.
        """
        default_name, code = read(source)
        name = name or default_name
        engine = engine_for(EngineKey.of(limits or Limits()))
        # What can be told from the names is told before the long compilation.
        names = _parse(code, name)
        version = _version(names, name)
        _check_imports(names, version, name)
        compiled = (cache or ModuleCache.default()).get(engine, code, name)
        return cls(
            name=name,
            digest="sha256:" + hashlib.sha256(code).hexdigest(),
            code=code,
            version=version,
            compiled=compiled,
            engine=engine,
            imports=_imports(compiled, version, name),
            callbacks=_callbacks(compiled, version, name),
            allocator=_allocator(compiled, name),
        )


def read(source: ModuleSource) -> tuple[str, bytes]:
    """A name for the module and its bytes; WAT text is assembled."""
    if isinstance(source, bytes):
        return "<bytes>", _binary(source, "<bytes>")
    text = os.fspath(source)
    if text.startswith("oci://"):
        return text, _pull(text)
    path = Path(text.removeprefix("file://"))
    try:
        return path.name, _binary(path.read_bytes(), path.name)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="give a .wasm file, bytes or oci://…") from None


def _pull(reference: str) -> bytes:
    # The one look upwards: images are a convenience that the host works without.
    try:
        from labkit import oci
    except ImportError:
        raise UsageError(
            f"cannot pull {reference}: labkit.oci is not installed", hint="pip install labkit[lab]"
        ) from None
    return bytes(oci.pull_module(reference))


def _binary(data: bytes, name: str) -> bytes:
    if data[:4] == _MAGIC[:4]:
        if data[:8] != _MAGIC:
            raise InvalidModule("is a WebAssembly file of another version than 1 (a component?)", module=name)
        return data
    if data.lstrip()[:1] in (b"(", b";"):
        try:
            return bytes(wasmtime.wat2wasm(data))
        except wasmtime.WasmtimeError as error:
            raise InvalidModule("is WAT that does not assemble", module=name, details=str(error)) from None
    raise InvalidModule(
        f"is no WebAssembly module: it begins with {data[:4]!r}",
        module=name,
        hint="give the compiled .wasm file, not its source, archive or image layer",
    )


def _parse(code: bytes, name: str) -> wasm.Module:
    try:
        module = wasm.Module.parse(code)
        # Both are read when first asked for.
        _ = module.imports, module.exports
    except wasm.MalformedModule as error:
        raise InvalidModule(
            f"is no valid WebAssembly module: {error.problem} (byte {error.offset})", module=name, hint=error.hint
        ) from None
    return module


def _version(module: wasm.Module, name: str) -> str:
    found = [export.name for export in module.exports if export.name.startswith("proxy_abi_version_")]
    if not found:
        raise AbiError(
            "exports no ABI marker such as proxy_abi_version_0_2_1",
            module=name,
            hint="is it a proxy-wasm plugin? its SDK exports the marker",
        )
    if len(found) > 1:
        raise AbiError(f"exports {len(found)} ABI markers: {', '.join(sorted(found))}", module=name, function=found[1])
    if found[0] not in abi.MARKERS:
        raise AbiError(
            f"follows an ABI that is not known here: {found[0]}",
            module=name,
            function=found[0],
            hint=f"known: {', '.join(abi.VERSIONS)}",
        )
    return abi.MARKERS[found[0]]


def _check_imports(module: wasm.Module, version: str, name: str) -> None:
    known = abi.host_functions(version)
    unknown = [f"{item.module}.{item.name}" for item in module.imports if (item.module, item.name) not in known]
    if unknown:
        raise UnknownImports(list(dict.fromkeys(unknown)), module=name, version=version, hint=_import_hint(unknown))


def _type(ty: wasmtime.FuncType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(str(p) for p in ty.params), tuple(str(r) for r in ty.results)


def _imports(compiled: wasmtime.Module, version: str, name: str) -> tuple[abi.Function, ...]:
    known = abi.host_functions(version)
    wrong, imports = [], []
    for item in compiled.imports:
        function = known[item.module, item.name or ""]
        if isinstance(item.type, wasmtime.FuncType) and _type(item.type) == (
            function.wasm_params,
            function.wasm_results,
        ):
            imports.append(function)
        else:
            wrong.append(f"{item.module}.{item.name} must be {function.signature()}")
    if wrong:
        raise AbiError(f"imports with a wrong type: {'; '.join(wrong)}", module=name, function=wrong[0].split()[0])
    # A module may import one function several times.
    return tuple(dict.fromkeys(imports))


def _import_hint(unknown: list[str]) -> str:
    elsewhere = {f"{f.module}.{f.name}": f.versions for f in abi.HOST_FUNCTIONS}
    for label in unknown:
        if label in elsewhere:
            return f"{label} belongs to ABI {', '.join(elsewhere[label])}"
    return "built for another host? build it with a proxy-wasm SDK"


def _callbacks(compiled: wasmtime.Module, version: str, name: str) -> dict[str, abi.Function]:
    known = abi.callbacks(version)
    found = {}
    for export in compiled.exports:
        function = known.get(export.name)
        if function is None:
            continue
        if not isinstance(export.type, wasmtime.FuncType) or _type(export.type) != (
            function.wasm_params,
            function.wasm_results,
        ):
            raise AbiError(
                f"exports {export.name} with a wrong type; it must be {function.signature()}",
                module=name,
                function=export.name,
            )
        found[export.name] = function
    if not found:
        raise AbiError("exports no callback of the ABI", module=name, hint="the host would never call it")
    return found


def _allocator(compiled: wasmtime.Module, name: str) -> str:
    exports = {export.name: export.type for export in compiled.exports}
    for candidate in abi.ALLOCATORS:
        ty = exports.get(candidate)
        if isinstance(ty, wasmtime.FuncType):
            if _type(ty) != (("i32",), ("i32",)):
                raise AbiError(f"exports {candidate} with a wrong type", module=name, function=candidate)
            return candidate
    raise MissingAllocator(
        "exports no allocator (malloc or proxy_on_memory_allocate)", module=name, function="proxy_on_memory_allocate"
    )
