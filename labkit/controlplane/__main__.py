"""`python -m labkit.controlplane`: the controller as a process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from labkit.controlplane.controller import Controller
from labkit.controlplane.service import ControlPlane
from labkit.controlplane.watch import Watcher
from labkit.events import Journal

log = logging.getLogger("labkit.controlplane")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m labkit.controlplane", description="The gateway's controller.")
    parser.add_argument("--kubeconfig", type=Path, required=True, metavar="FILE", help="how to reach the API server")
    parser.add_argument("--port", type=int, required=True, help="where agents find the controller")
    parser.add_argument("--gateway-port", type=int, required=True, help="where the gateway listens")
    parser.add_argument("--journal", type=Path, required=True, metavar="FILE")
    parser.add_argument("--namespace", default="higress-system", help="where plugins are taken from")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    watcher = Watcher(arguments.kubeconfig, arguments.namespace)
    controller = Controller(arguments.namespace, arguments.gateway_port, Journal(arguments.journal))
    control_plane = ControlPlane(controller, watcher.write_status)
    port = await control_plane.server.start(arguments.port)
    log.info("serving agents on 127.0.0.1:%d", port)
    watcher.start(control_plane)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    watcher.stop()
    await control_plane.server.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_run(_arguments()))
