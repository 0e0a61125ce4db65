from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import toolchains
from labkit.experiments import bench_host


class _Contender:
    answer = None

    def __init__(self, seconds: float, order: list[float]) -> None:
        self._seconds = seconds
        self._order = order

    def run(self, requests: int) -> float:
        self._order.append(self._seconds)
        return self._seconds * requests


def test_contenders_take_turns() -> None:
    order: list[float] = []
    contenders = {str(seconds): _Contender(seconds, order) for seconds in (0.01, 0.02, 0.03)}
    rows = bench_host.measure(contenders, rounds=3)
    assert [(row.name, row.us_per_request, row.rounds) for row in rows] == [
        ("0.01", 10_000, 3),
        ("0.02", 20_000, 3),
        ("0.03", 30_000, 3),
    ]
    assert order[-9:] == [0.01, 0.02, 0.03, 0.02, 0.03, 0.01, 0.03, 0.01, 0.02]


def test_the_hosts_of_this_process_are_measured(mock_module: Path, tmp_path: Path) -> None:
    report = bench_host.bench_host(mock_module, tmp_path, rounds=1, comparators=())
    document = json.loads(report.to_json())
    assert set(document) == {"rows", "load_ms"}
    names = [row["name"] for row in document["rows"]]
    assert names[:3] == ["labkit", "naive", "labkit.request()"]
    assert "labkit/body-100k" in names
    assert "labkit/50-headers" in names
    assert all(row["us_per_request"] > 0 for row in document["rows"])


def test_the_go_sdks_own_test_host_answers_the_same(mock_module: Path, tmp_path: Path) -> None:
    report = bench_host.bench_host(mock_module, tmp_path, rounds=1, comparators=("proxytest",))
    assert report.rows[1].name == "proxytest"
    assert report.skipped == {}


def test_a_comparator_without_its_toolchain_is_left_out(
    mock_module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_host.shutil, "which", lambda name: None)
    with pytest.raises(toolchains.ToolchainMissing):
        bench_host.build_rust(tmp_path)
    said: list[str] = []
    report = bench_host.bench_host(mock_module, tmp_path, rounds=1, comparators=("rust",), on_progress=said.append)
    assert list(report.skipped) == ["rust"]
    assert any("without rust" in line for line in said)
    assert not any(row.name.startswith("rust") for row in report.rows)
