"""Tests of plugins: suites in the format of Google's service-extensions plugin tester, and a pytest plugin.

    labkit test plugin.wasm tests.yaml

    from labkit.testing import load_suite, run_suite

    result = run_suite(load_suite("tests.textpb"), plugin="plugin.wasm")
    assert result.passed, result

The parts, from the bottom up:

- `schema`: the messages of a suite; `parse` reads them from text-proto and YAML, `textual` from a scalar.
- `http1`, `matching`: what inputs and expectations mean.
- `sandbox`: the stream in which a test runs its plugin; it differs from Envoy as the original tester does.
- `runner`: a test's phases and what is expected of each; `results` is what comes of it, `report` shows it.
- `benchmark`: what a stream costs in the embedded host.
- `assertions`: checks of a `labkit.proxywasm.Result` that fail readably.
- `pytest_plugin`: fixtures and collected suites. pytest loads it in every run of a machine that has labkit, so this
  package imports its parts when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.testing.assertions import assert_clean, assert_forwarded, assert_logged, assert_replied
    from labkit.testing.benchmark import Benchmark, run_benchmarks
    from labkit.testing.parse import Suite, SuiteError, load_suite
    from labkit.testing.report import to_json, to_junit, to_text
    from labkit.testing.results import Failure, PhaseLog, SuiteResult, TestResult
    from labkit.testing.runner import run_suite

_HOMES = {
    "assertions": ("assert_clean", "assert_forwarded", "assert_logged", "assert_replied"),
    "benchmark": ("Benchmark", "run_benchmarks"),
    "parse": ("Suite", "SuiteError", "load_suite"),
    "report": ("to_json", "to_junit", "to_text"),
    "results": ("Failure", "PhaseLog", "SuiteResult", "TestResult"),
    "runner": ("run_suite",),
}

__all__ = [
    "Benchmark",
    "Failure",
    "PhaseLog",
    "Suite",
    "SuiteError",
    "SuiteResult",
    "TestResult",
    "assert_clean",
    "assert_forwarded",
    "assert_logged",
    "assert_replied",
    "load_suite",
    "run_benchmarks",
    "run_suite",
    "to_json",
    "to_junit",
    "to_text",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"labkit.testing.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
