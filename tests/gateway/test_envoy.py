"""Envoy's binary, command line and bootstrap."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from labkit import gateway
from labkit.gateway import EnvoyMissing, bootstrap, command, envoy_path


def test_envoy_takes_the_bootstrap(tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(bootstrap(admin_port=1, agent_port=2)))
    done = subprocess.run([*command(path), "--mode", "validate"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_bootstrap_knows_the_agent_only_and_listens_on_loopback_only() -> None:
    made = bootstrap(admin_port=1, agent_port=2)
    assert [cluster["name"] for cluster in made["static_resources"]["clusters"]] == [gateway.AGENT_CLUSTER]
    assert "listeners" not in made["static_resources"]
    assert made["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 1}


def test_command_starts_the_binary_itself(tmp_path: Path) -> None:
    line = command(tmp_path / "bootstrap.json", concurrency=3)
    assert line[0] == str(envoy_path())
    with open(line[0], "rb") as file:
        assert file.read(2) != b"#!"
    assert line[line.index("--concurrency") + 1] == "3"


def test_missing_wheel_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Path:
        raise ModuleNotFoundError

    monkeypatch.setattr("labkit.gateway.envoy.files", missing)
    with pytest.raises(EnvoyMissing, match="no Envoy for"):
        envoy_path()
