"""What all tests share: fast ones first, no skips in CI, one compiled mock plugin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import resources, toolchains
from labkit.lab import Lab

SLOW = ("docker", "e2e", "notebook")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; a stable sort keeps the rest as it is."""
    items.sort(key=_cost)


def _cost(item: pytest.Item) -> int:
    marked = sum(2 ** (place + 1) for place, mark in enumerate(SLOW) if item.get_closest_marker(mark))
    return marked + ("chain" in item.fixturenames or "differential" in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI everything that tests need is installed, so a skip there is a test that quietly does not run."""
    report: pytest.TestReport = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI refuses skips: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def mock_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plugins/mock, compiled."""
    return toolchains.build(resources.path("plugins/mock"), tmp_path_factory.mktemp("mock") / "plugin.wasm").module


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running lab of the tests' own; tests leave it as they find it."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.up()
    yield lab
    lab.down()
