"""The lab's life: up, crashes, down. Each test has a lab of its own state."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from labkit import resources
from labkit.errors import UsageError
from labkit.events import LIFECYCLE
from labkit.lab import Lab, LabNotRunning, Ports, PortTaken, demo
from labkit.lab.supervision import RUN_VARIABLE

from .conditions import wait_for

pytestmark = pytest.mark.e2e
PARTS = ("kube", "registry", "controller", "agent", "gateway", "upstreams")


def processes_of(lab: Lab) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_VARIABLE) == str(lab.layout.run):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    """A lab whose gateway runs the mock plugin."""
    demo.run(lab)
    return lab


def replies(lab: Lab) -> list[str]:
    url = lab.status().gateway["url"]
    return [demo.ask(url, host, path).text for host, path, _, _ in demo.REQUESTS]


EXPECTED = [reply for *_, reply in demo.REQUESTS]


def test_a_second_up_changes_nothing(lab):
    before = lab.status()
    assert lab.up() == before


def test_up_on_other_ports_says_that_the_lab_is_up_already(lab):
    with pytest.raises(UsageError, match="already up"):
        lab.up(Ports(gateway=lab.ports.gateway + 1))


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_is_restarted_and_the_plugin_still_answers(served, part):
    before = next(found for found in served.status().parts if found.name == part)
    os.kill(before.pid, signal.SIGKILL)
    after = wait_for(
        lambda: next(
            (
                found
                for found in served.status().parts
                if found.name == part and found.pid not in (None, before.pid) and found.restarts > before.restarts
            ),
            None,
        )
    )
    assert after.restarts == before.restarts + 1
    happened = [e.name for e in served.journal.read() if e.step == LIFECYCLE and e.part == part]
    assert "crashed" in happened
    wait_for(lambda: served.status().state == "up")
    wait_for(lambda: replies(served) == EXPECTED)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_hangs_is_unhealthy(served, part):
    process = psutil.Process(next(found for found in served.status().parts if found.name == part).pid)
    process.suspend()
    try:
        found = served.status()
        assert found.state == "degraded"
        assert {one.name for one in found.parts if one.state == "unhealthy"} == {part}
    finally:
        process.resume()
    wait_for(lambda: served.status().state == "up")


def test_requests_are_answered_while_agent_and_controller_are_dead(served):
    by_name = {part.name: part.pid for part in served.status().parts}
    for name in ("controller", "agent", "kube"):
        os.kill(by_name[name], signal.SIGKILL)
    for _ in range(50):
        assert replies(served) == EXPECTED
    wait_for(lambda: served.status().state == "up")


def test_what_was_pushed_and_applied_survives_the_death_of_registry_and_api_server(served):
    by_name = {part.name: part.pid for part in served.status().parts}
    for name in ("registry", "kube"):
        os.kill(by_name[name], signal.SIGKILL)
    wait_for(lambda: served.status().state == "up")
    manifest = resources.path("manifests/wasmplugin.yaml")
    (deleted,) = served.kube().delete(manifest)
    assert deleted.name == "mock"
    (applied,) = served.kube().apply(manifest)
    served.kube().wait_for_ready(applied)
    wait_for(lambda: replies(served) == EXPECTED)


def test_everything_listens_on_loopback_only(lab):
    for process in processes_of(lab):
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                # gRPC listens on ::ffff:127.0.0.1, which is the same address written for a dual-stack socket.
                address = ip_address(connection.laddr.ip)
                assert (getattr(address, "ipv4_mapped", None) or address).is_loopback


def test_a_taken_port_is_named_with_what_to_do_and_nothing_is_left(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lab = Lab(tmp_path)
        with pytest.raises(PortTaken, match=f"port {port} for the gateway is taken") as raised:
            lab.up(Ports(gateway=port))
        assert "--gateway-port" in (raised.value.hint or "")
        assert lab.status().state == "down"
        assert not processes_of(lab)


def test_one_port_for_two_parts_is_refused():
    with pytest.raises(PortTaken, match="port 8080 was asked for twice: for the gateway and the kube"):
        Ports(gateway=8080, kube=8080).picked()


def test_a_lab_that_is_down_says_how_to_start_it(tmp_path):
    with pytest.raises(LabNotRunning) as raised:
        Lab(tmp_path).require_up()
    assert raised.value.hint == "start it with: labkit up"


def test_down_ends_every_process_and_removes_all_state(tmp_path):
    lab = Lab(tmp_path)
    lab.up()
    assert len(processes_of(lab)) > len(PARTS)
    lab.down()
    assert not processes_of(lab)
    assert not lab.layout.run.exists()
    assert not lab.layout.journal.exists()
    lab.down()


def test_a_lab_whose_supervisor_was_killed_is_taken_up_again_with_its_state(tmp_path):
    lab = Lab(tmp_path)
    try:
        lab.up()
        lab.kube().apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}})
        os.kill(int((lab.layout.run / "supervisord.pid").read_text()), signal.SIGKILL)
        wait_for(lambda: lab.status().state == "broken")
        old = processes_of(lab)
        assert lab.up().state == "up"
        assert not any(process.is_running() for process in old)
        assert lab.kube().get("configmap", "kept", namespace="default")
    finally:
        lab.down()


def test_two_ups_at_once_make_one_lab(tmp_path):
    lab = Lab(tmp_path)
    try:
        found = []
        threads = [threading.Thread(target=lambda: found.append(Lab(tmp_path).up())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [part.pid for part in found[0].parts] == [part.pid for part in found[1].parts]
    finally:
        lab.down()


def test_ctrl_c_during_up_leaves_no_process(tmp_path):
    lab = Lab(tmp_path)
    starting = subprocess.Popen(
        [sys.executable, "-c", "from labkit.cli import main; main()", "up"],
        env={**os.environ, "LABKIT_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
    )
    wait_for(lambda: lab.layout.state.exists() and processes_of(lab))
    starting.send_signal(signal.SIGINT)
    _, printed = starting.communicate(timeout=60)
    assert starting.returncode == 130, printed
    assert b"Traceback" not in printed
    assert lab.status().state == "down"
    assert not processes_of(lab)


def test_status_is_one_json_document_with_all_an_outside_program_needs(lab):
    document = json.loads(json.dumps(lab.status().to_json()))
    assert document["state"] == "up"
    assert document["gateway"].keys() == {"url", "admin"}
    assert Path(document["kubeconfig"]).is_file()
    assert document["registry"] == f"127.0.0.1:{lab.ports.registry}"
    assert [part["name"] for part in document["parts"]] == list(PARTS)
    assert document["parts"][0].keys() == {"name", "pid", "state", "restarts", "log"}
