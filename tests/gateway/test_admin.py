"""The admin interface of a real Envoy."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.gateway import Admin, AdminUnavailable, bootstrap, command


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """An Envoy whose agent is not there."""
    path: Path = tmp_path_factory.mktemp("envoy") / "bootstrap.json"
    port = free_port()
    path.write_text(json.dumps(bootstrap(admin_port=port, agent_port=free_port(), node_id="one")))
    with (path.parent / "log").open("wb") as log:
        process = subprocess.Popen(list(command(path, concurrency=1)), stderr=log)
    with Admin(f"127.0.0.1:{port}") as client:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                client.server_info()
                break
            except AdminUnavailable:
                time.sleep(0.01)
        yield client
    process.terminate()
    process.wait()


def test_gateway_without_its_agent_listens_nowhere(admin: Admin) -> None:
    assert not admin.listeners_active()
    assert admin.extensions() == {}


def test_info_stats_and_config_dump_are_read(admin: Admin) -> None:
    info = admin.server_info()
    assert info["node"]["id"] == "one"
    assert info["command_line_options"]["drain_strategy"] == "Immediate"
    assert admin.stats(r"^server\.live$") == {"server.live": 1}
    assert "dynamic_resources" in json.dumps(admin.config_dump())


def test_log_level_can_be_changed(admin: Admin) -> None:
    admin.set_log_level(wasm="debug")
    admin.drain()


def test_nobody_there_is_said() -> None:
    with Admin(f"127.0.0.1:{free_port()}") as nobody:
        assert not nobody.is_ready()
        with pytest.raises(AdminUnavailable, match="does not answer /server_info"):
            nobody.server_info()
