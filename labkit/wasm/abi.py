"""Which proxy-wasm ABI a module speaks, and making a Higress module fit upstream Envoy.

A proxy-wasm module says which ABI it speaks by exporting a function whose name is the marker. Higress' SDK exports
`proxy_abi_version_0_2_100`, which upstream Envoy refuses to know, although everything behind the marker is 0.2.1
for as long as the module calls nothing that only Higress' Envoy offers. `fit` checks that and renames the export.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from labkit.wasm._errors import AbiMarkerError, UnsupportedImports
from labkit.wasm._reader import encode_unsigned
from labkit.wasm.module import ExternalKind, Module, SectionId

MARKER_PREFIX = "proxy_abi_version_"
"""How the name of the exported function begins that tells the ABI's version."""

HIGRESS_ABI = "0.2.100"
"""What Higress' SDK exports; only Higress' own Envoy takes it."""

_FITTED_ABI = "0.2.1"

_PROXY_ALWAYS = """
add_header_map_value call_foreign_function define_metric dequeue_shared_queue done enqueue_shared_queue
get_buffer_bytes get_buffer_status get_current_time_nanoseconds get_header_map_pairs get_header_map_size
get_header_map_value get_metric get_property get_shared_data get_status grpc_call grpc_cancel grpc_close grpc_send
grpc_stream http_call increment_metric log record_metric register_shared_queue remove_header_map_value
replace_header_map_value resolve_shared_queue send_local_response set_buffer_bytes set_effective_context
set_header_map_pairs set_property set_shared_data set_tick_period_milliseconds
"""

_PROXY_BY_ABI: Mapping[str, str] = {
    "0.1.0": "get_configuration continue_request continue_response clear_route_cache",
    "0.2.0": "continue_stream close_stream",
    "0.2.1": "continue_stream close_stream get_log_level",
}

_EMSCRIPTEN = "emscripten_notify_memory_growth pthread_equal"

# WASI preview 1 as a whole, but for proc_raise; most of it answers "not supported" when called.
_WASI = """
args_get args_sizes_get clock_res_get clock_time_get environ_get environ_sizes_get fd_advise fd_allocate fd_close
fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights fd_filestat_get fd_filestat_set_size
fd_filestat_set_times fd_pread fd_prestat_dir_name fd_prestat_get fd_pwrite fd_read fd_readdir fd_renumber fd_seek
fd_sync fd_tell fd_write path_create_directory path_filestat_get path_filestat_set_times path_link path_open
path_readlink path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff proc_exit random_get
sched_yield sock_accept sock_recv sock_send sock_shutdown
"""

HIGRESS_ONLY = frozenset(
    f"env.proxy_{name}"
    for name in ("get_upstream_hosts", "inject_encoded_data", "redis_call", "redis_init", "set_upstream_override_host")
)
"""Host functions that only Higress' Envoy has."""

UPSTREAM_ABIS = tuple(_PROXY_BY_ABI)
"""The versions that upstream Envoy takes."""


def host_functions(abi: str) -> frozenset[str]:
    """The functions, as `module.name`, that upstream Envoy 1.40 lets a module of this ABI import.

    A test asks the Envoy of the wheel about each of them.
    """
    proxy = f"{_PROXY_ALWAYS} {_PROXY_BY_ABI[abi]}".split()
    wasi = [f"{module}.{name}" for module in ("wasi_unstable", "wasi_snapshot_preview1") for name in _WASI.split()]
    env = [f"env.{name}" for name in _EMSCRIPTEN.split()]
    return frozenset([f"env.proxy_{name}" for name in proxy] + env + wasi)


def abi_versions(module: Module) -> tuple[str, ...]:
    """The versions of the proxy-wasm ABI that the module's markers name, such as `("0.2.1",)`."""
    return tuple(
        export.name.removeprefix(MARKER_PREFIX).replace("_", ".")
        for export in module.exports
        if export.kind is ExternalKind.FUNCTION and export.name.startswith(MARKER_PREFIX)
    )


def abi_version(module: Module) -> str:
    """The one ABI version that the module names.

    Raises:
        AbiMarkerError: It names none, or more than one.
    """
    versions = abi_versions(module)
    if not versions:
        raise AbiMarkerError(
            "the module has no proxy-wasm ABI marker: it exports no function proxy_abi_version_…",
            hint="build it with a proxy-wasm SDK; for Go: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared",
        )
    if len(versions) > 1:
        raise AbiMarkerError(
            f"the module has {len(versions)} proxy-wasm ABI markers: {', '.join(versions)}",
            hint="a host cannot tell which one is meant; link one proxy-wasm SDK only",
        )
    return versions[0]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A module that upstream Envoy can link.

    Attributes:
        content: The module's bytes, to be handed to Envoy.
        changed: Whether they differ from what was given.
        abi: The version its marker names now.
        original_abi: The version its marker named before.
        digest: `sha256:…` of `content`.
        module_digest: `sha256:…` of what was given.
    """

    content: bytes
    changed: bool
    abi: str
    original_abi: str
    digest: str
    module_digest: str


def fit(content: bytes) -> Fitted:
    """Make a proxy-wasm module fit upstream Envoy: rename Higress' ABI marker, change nothing else.

    The same bytes always give the same result, and fitting what was fitted changes nothing.

    Raises:
        MalformedModule: Not a wasm module.
        AbiMarkerError: No marker, several, or one that neither Higress nor upstream Envoy knows.
        UnsupportedImports: It needs host functions that upstream Envoy lacks.
    """
    module = Module.parse(content)
    original = abi_version(module)
    abi = _FITTED_ABI if original == HIGRESS_ABI else original
    if abi not in _PROXY_BY_ABI:
        raise AbiMarkerError(
            f"the module speaks version {original} of the proxy-wasm ABI, which Envoy does not know",
            hint=f"build it for one of {', '.join(UPSTREAM_ABIS)} or Higress' {HIGRESS_ABI}",
        )
    _refuse_unknown_imports(module, abi)
    digest = _sha256(content)
    if abi == original:
        return Fitted(content, False, abi, original, digest, digest)
    fitted = _rename_export(module, _marker(original), _marker(abi))
    return Fitted(fitted, True, abi, original, _sha256(fitted), digest)


def _refuse_unknown_imports(module: Module, abi: str) -> None:
    known = host_functions(abi)
    wanted = dict.fromkeys(f"{item.module}.{item.name}" for item in module.imports)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise UnsupportedImports(missing, higress_only=[name for name in missing if name in HIGRESS_ONLY])


def _marker(abi: str) -> str:
    return MARKER_PREFIX + abi.replace(".", "_")


def _rename_export(module: Module, old: str, new: str) -> bytes:
    section = module.section(SectionId.EXPORT)
    if section is None or any(export.name == new for export in module.exports):
        raise AbiMarkerError(f"the module exports {new} as something else than a function", hint="rename that export")
    body = bytearray(encode_unsigned(len(module.exports)))
    for export in module.exports:
        name = (new if export.name == old else export.name).encode()
        body += encode_unsigned(len(name)) + name + bytes((export.kind,)) + encode_unsigned(export.index)
    header = bytes((SectionId.EXPORT,)) + encode_unsigned(len(body))
    return b"".join((module.data[: section.offset], header, body, module.data[section.end :]))


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
