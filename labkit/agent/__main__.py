"""`python -m labkit.agent`: the agent as a process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from labkit.agent.delivery import Delivery
from labkit.agent.envoy import EnvoyAdmin
from labkit.agent.envoy_log import EnvoyLog
from labkit.agent.fetch import Sources
from labkit.agent.relay import Agent
from labkit.agent.served import ServedPlugins
from labkit.agent.store import ModuleStore
from labkit.events import Journal

log = logging.getLogger("labkit.agent")


def _mirror(text: str) -> tuple[str, str]:
    logical, separator, real = text.partition("=")
    if not (logical and separator and real):
        raise argparse.ArgumentTypeError(f"{text!r} is not LOGICAL=REAL")
    return logical, real


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m labkit.agent", description="Envoy's xDS proxy.")
    parser.add_argument("--port", type=int, required=True, help="where Envoy finds the agent")
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT", help="the controller")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="where modules are kept")
    parser.add_argument("--envoy-admin", required=True, metavar="HOST:PORT", help="Envoy's admin interface")
    parser.add_argument("--envoy-log", type=Path, metavar="FILE", help="where Envoy logs what plugins say")
    parser.add_argument("--journal", type=Path, required=True, metavar="FILE")
    parser.add_argument("--mirror", type=_mirror, action="append", default=[], metavar="LOGICAL=REAL")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    admin = EnvoyAdmin(arguments.envoy_admin)
    envoy_log = EnvoyLog(arguments.envoy_log)
    store = ModuleStore(arguments.cache, Sources(dict(arguments.mirror)))
    journal = Journal(arguments.journal)
    served = ServedPlugins(arguments.cache / "served")
    agent = Agent(
        arguments.upstream,
        lambda send, report: Delivery(store, admin, envoy_log, journal, served, send, report),
    )
    port = await agent.start(arguments.port)
    log.info("serving Envoy on 127.0.0.1:%d from the controller at %s", port, arguments.upstream)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await agent.stop()
    await admin.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(_run(_arguments()))
