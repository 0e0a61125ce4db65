from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.proxywasm import Module
from labkit.testing import SuiteResult, load_suite, run_suite

HERE = Path(__file__).parent

RunYaml = Callable[..., SuiteResult]


@pytest.fixture(scope="session")
def sample_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sample.c, compiled."""
    pytest.importorskip("ziglang")
    target = tmp_path_factory.mktemp("sample") / "sample.wasm"
    flags = ["--target=wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry", f"-I{HERE.parent / 'plugins/c'}"]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-o", target, HERE / "sample.c"], check=True)
    return target


@pytest.fixture(scope="session")
def sample(sample_path: Path) -> Module:
    return Module.load(sample_path)


@pytest.fixture
def run_yaml(tmp_path: Path, sample: Module) -> RunYaml:
    """Run a suite in YAML against the sample."""

    def run(text: str, **options: object) -> SuiteResult:
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return run_suite(load_suite(path), plugin=sample, **options)

    return run
