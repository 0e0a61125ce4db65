"""Writes into the journal what happens to the parts: started, crashed, restarted, gave up.

supervisord runs this as an event listener (http://supervisord.org/events.html): events come on stdin, each is
acknowledged on stdout.
"""

from __future__ import annotations

import sys
from typing import TextIO

from labkit.events import LIFECYCLE, Journal

_NAMES = {
    "PROCESS_STATE_RUNNING": "running",
    "PROCESS_STATE_STOPPED": "stopped",
    "PROCESS_STATE_BACKOFF": "crashed",
    "PROCESS_STATE_FATAL": "gave up",
}


def watch(stdin: TextIO, stdout: TextIO, journal: Journal) -> None:
    """Copy events from `stdin` into `journal` until `stdin` ends."""
    crashed: set[str] = set()
    while True:
        stdout.write("READY\n")
        stdout.flush()
        line = stdin.readline()
        if not line:
            return
        header = _pairs(line)
        payload = _pairs(stdin.read(int(header["len"])))
        part = payload.get("processname", "")
        if name := _happened(header["eventname"], payload, restarted=part in crashed):
            error = f"the {part} ended by itself" if name == "crashed" else None
            pid = int(payload["pid"]) if payload.get("pid", "0") != "0" else None
            journal.record(LIFECYCLE, part=part, name=name, error=error, pid=pid)
            if name == "crashed":
                crashed.add(part)
            else:
                crashed.discard(part)
        stdout.write("RESULT 2\nOK")
        stdout.flush()


def _happened(event: str, payload: dict[str, str], *, restarted: bool) -> str | None:
    if event == "PROCESS_STATE_EXITED":
        # The lab's parts never end by themselves: any exit that nobody asked for is a crash.
        return "crashed"
    if event == "PROCESS_STATE_STARTING":
        return "restarted" if restarted else None
    if payload.get("processname") == "watcher":
        return None
    return _NAMES.get(event)


def _pairs(text: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in text.split())


if __name__ == "__main__":
    watch(sys.stdin, sys.stdout, Journal(sys.argv[1]))
