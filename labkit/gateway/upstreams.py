"""The demo's upstream services: each says who it is and echoes what it was asked.

    python -m labkit.gateway.upstreams foo=8081 bar=8082

One process, one asyncio server a service; HTTP/1.1 with keep-alive, bodies read and dropped. It does no more than
the lab needs, so that a load test measures the gateway and not this.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

log = logging.getLogger("labkit.gateway.upstreams")

_MAX_HEAD = 64 * 1024


class _BadRequest(Exception):
    pass


async def serve(services: Mapping[str, int], ready: asyncio.Event | None = None) -> None:
    """Answer for each service (name → port) until cancelled."""
    async with AsyncExitStack() as stack:
        for name, port in services.items():
            server = await asyncio.start_server(_Service(name).handle, "127.0.0.1", port, limit=_MAX_HEAD)
            await stack.enter_async_context(server)
            log.info("%s answers on 127.0.0.1:%d", name, port)
        if ready:
            ready.set()
        await asyncio.Event().wait()


class _Service:
    def __init__(self, name: str) -> None:
        self._name = name

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while await self._answer(reader, writer):
                pass
        except _BadRequest as error:
            writer.write(_response(400, f"{error}\n", keep_alive=False))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or this process is being stopped
        finally:
            with suppress(ConnectionError):
                await writer.drain()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.split("\r\n")[:-2]
        try:
            method, target, version = request_line.split(" ")
            headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
            size = await _skip_body(reader, headers)
        except ValueError:
            raise _BadRequest("malformed request") from None
        keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        body = f"{self._name}: {method} {target}\n" + (f"{size} bytes of body\n" if size else "")
        writer.write(_response(200, body, keep_alive=keep_alive, with_body=method != "HEAD"))
        await writer.drain()
        return keep_alive


async def _skip_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> int:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        length = int(headers.get("content-length", "0"))
        await reader.readexactly(length)
        return length
    total = 0
    while size := int((await reader.readline()).split(b";")[0], 16):
        await reader.readexactly(size + 2)
        total += size
    while (await reader.readline()).strip():
        pass
    return total


def _response(status: int, text: str, *, keep_alive: bool, with_body: bool = True) -> bytes:
    body = text.encode()
    connection = "keep-alive" if keep_alive else "close"
    reason = {200: "OK", 400: "Bad Request"}[status]
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: {connection}\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")


def _service(text: str) -> tuple[str, int]:
    name, separator, port = text.partition("=")
    if not (name and separator and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PORT")
    return name, int(port)


async def _main(services: Mapping[str, int]) -> None:
    task = asyncio.ensure_future(serve(services))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m labkit.gateway.upstreams", description="The demo's services.")
    parser.add_argument("services", nargs="+", type=_service, metavar="NAME=PORT")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(dict(parser.parse_args().services)))
