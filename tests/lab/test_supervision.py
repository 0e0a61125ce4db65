import os
import signal
import sys

import psutil
import pytest

from labkit.events import Journal
from labkit.lab.parts import Part
from labkit.lab.settings import Layout, Ports
from labkit.lab.supervision import Supervisor, sweep

from .conditions import wait_for

SLEEP = (sys.executable, "-c", "import signal; signal.pause()")


def part(name: str, command: tuple[str, ...]) -> Part:
    return Part(name, command, lambda: True)


@pytest.fixture
def layout(tmp_path):
    # A percent sign and a space: both mean something in supervisord's configuration.
    layout = Layout(tmp_path / "100% home")
    layout.logs.mkdir(parents=True)
    yield layout
    sweep(layout.run)


@pytest.fixture
def supervisor(layout):
    supervisor = Supervisor(layout, Ports().picked().supervisor, "secret")
    yield supervisor
    supervisor.stop()


def states(supervisor):
    return {process.name: process for process in supervisor.processes()}


def test_a_killed_part_is_restarted_and_the_journal_says_so(layout, supervisor):
    supervisor.start([part("sleeper", SLEEP)])
    first = wait_for(lambda: (p := states(supervisor)["sleeper"]).state == "running" and p.pid)
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: (pid := states(supervisor)["sleeper"].pid) != first and pid)
    assert psutil.pid_exists(second)
    happened = wait_for(lambda: [e.name for e in Journal(layout.journal).read()][-2:] == ["restarted", "running"])
    assert happened
    crash = next(event for event in Journal(layout.journal).read() if event.name == "crashed")
    assert crash.part == "sleeper"
    assert crash.error


def test_a_part_that_cannot_start_is_given_up(layout, supervisor):
    supervisor.start([part("broken", (sys.executable, "-c", "print('no luck'); raise SystemExit(3)"))])
    wait_for(lambda: states(supervisor)["broken"].state == "failed", 40)
    assert "no luck" in supervisor.log("broken").read_text()


def test_arguments_reach_a_part_as_they_are(layout, supervisor):
    words = ("50%", "a b", 'quote " it', "back\\slash")
    supervisor.start([part("echo", (sys.executable, "-c", "import sys; print(sys.argv[1:], flush=True)", *words))])
    wait_for(lambda: supervisor.log("echo").exists() and str(list(words)) in supervisor.log("echo").read_text())


def test_stop_ends_the_supervisor_and_its_parts(layout, supervisor):
    supervisor.start([part("sleeper", SLEEP)])
    pid = wait_for(lambda: states(supervisor)["sleeper"].pid)
    supervisor.stop()
    assert not psutil.pid_exists(pid)
    assert not supervisor.answers()


def test_sweep_ends_what_a_killed_supervisor_left_behind(layout, supervisor):
    supervisor.start([part("sleeper", SLEEP)])
    pid = wait_for(lambda: states(supervisor)["sleeper"].pid)
    os.kill(int((layout.run / "supervisord.pid").read_text()), signal.SIGKILL)
    sweep(layout.run)
    assert not psutil.pid_exists(pid)


def test_a_caller_without_the_password_is_refused(layout, supervisor):
    supervisor.start([part("sleeper", SLEEP)])
    assert not Supervisor(layout, supervisor._port, "guess").answers()
