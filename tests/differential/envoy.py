"""The real Envoy with one listener a plugin, between a frame-exact client and scripted servers."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from .model import Case, Message, Outcome, tag
from .wire import Client, Server

T = TypeVar("T")
EXTENSIONS = "type.googleapis.com/envoy.extensions"
LOG_LINE = re.compile(rb"wasm log[^:]*: (case-\d+) (.*)")


@dataclass(frozen=True, slots=True)
class Filter:
    """A plugin as Envoy is to run it.

    Attributes:
        name: The listener's name, by which cases choose it.
        module: The file Envoy loads.
        configuration: The plugin's configuration.
        policy: Envoy's failure policy: FAIL_CLOSED, FAIL_OPEN or FAIL_RELOAD.
    """

    name: str
    module: Path
    configuration: str = ""
    policy: str = "FAIL_CLOSED"


class Envoy:
    """Runs Envoy and sends cases through it; start and stop it as a context manager."""

    def __init__(self, binary: Path, filters: Iterable[Filter], directory: Path) -> None:
        self._binary = binary
        self._filters = list(filters)
        self._directory = directory
        self._scripts: dict[bytes, Case] = {}
        self._forwarded: dict[bytes, Message] = {}
        self._callouts: dict[bytes, list[Message]] = {}
        self._clients: dict[str, Client] = {}
        self._log = directory / "envoy.log"
        self._log_read = 0
        self._lines: dict[str, list[str]] = {}

    def __enter__(self) -> Envoy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="differential-wire", daemon=True)
        self._thread.start()
        ports = self._run(self._serve())
        config = self._directory / "envoy.json"
        config.write_text(json.dumps(bootstrap(self._filters, *ports)))
        admin = self._directory / "admin"
        command = [self._binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-format", "%v"]
        command += ["--log-level", "error", "--component-log-level", "wasm:warn,config:warn"]
        command += ["--admin-address-path", admin]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        try:
            self._ports = self._wait_until_ready(admin)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def run(self, case: Case, number: str) -> Outcome:
        """Send one case through Envoy; `number` is like no other case's."""
        if self._process.poll() is not None:
            raise self._ended()
        tagged = replace(case, request=tag(case.request, number))
        return self._run(self._exchange(tagged, number.encode()))

    def wait(self) -> int:
        """Wait for Envoy to end of its own accord; its exit code."""
        return self._process.wait(30)

    def _ended(self) -> RuntimeError:
        log = self._log.read_text(errors="replace")[-4000:]
        return RuntimeError(f"Envoy ended with {self._process.returncode}:\n{log}")

    async def _exchange(self, case: Case, number: bytes) -> Outcome:
        self._scripts[number] = case
        client = await self._client(case.plugin)
        reply, complete = await asyncio.wait_for(client.exchange(case.request), 20)
        log = await self._logged(number.decode())
        del self._scripts[number]
        return Outcome(
            reply=reply,
            complete=complete,
            forwarded=self._forwarded.pop(number, None),
            callouts=tuple(self._callouts.pop(number, ())),
            log=tuple(log),
        )

    async def _client(self, plugin: str) -> Client:
        client = self._clients.get(plugin)
        if client is None or client.closed:
            _, client = await self._loop.create_connection(Client, "127.0.0.1", self._ports[plugin])
            self._clients[plugin] = client
        return client

    async def _logged(self, number: str) -> list[str]:
        """What the plugin logged about a case. A plugin that logs cases ends with `x enter`, unless it traps."""
        trapped = False
        for _ in range(200):
            with self._log.open("rb") as log:
                log.seek(self._log_read)
                data = log.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._log_read += len(whole)
            for line in whole.splitlines():
                trapped = trapped or line.startswith(b"Function: ")
                if found := LOG_LINE.search(line):
                    self._lines.setdefault(found[1].decode(), []).append(found[2].decode("latin-1"))
            lines = self._lines.get(number, [])
            if not lines or trapped or any(line.startswith("x enter") for line in lines):
                break
            await asyncio.sleep(0.005)
        return self._lines.pop(number, [])

    async def _serve(self) -> tuple[int, int, int]:
        def upstream(message: Message) -> Message | None:
            number = message.get(b"x-case") or b""
            self._forwarded[number] = message
            return self._scripts[number].upstream if number in self._scripts else None

        def callout(message: Message) -> Message | None:
            number = message.get(b"x-case") or b""
            self._callouts.setdefault(number, []).append(message)
            return self._scripts[number].callout if number in self._scripts else None

        closed = await self._listen(lambda _: None)
        closed_port = closed.sockets[0].getsockname()[1]
        closed.close()
        servers = [await self._listen(upstream), await self._listen(callout)]
        return *(server.sockets[0].getsockname()[1] for server in servers), closed_port

    async def _listen(self, script: Callable[[Message], Message | None]) -> asyncio.Server:
        return await self._loop.create_server(lambda: Server(script), "127.0.0.1", 0)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60)

    def _wait_until_ready(self, admin: Path) -> dict[str, int]:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise self._ended()
            try:
                address = admin.read_text()
                with urllib.request.urlopen(f"http://{address}/listeners?format=json", timeout=5) as answer:
                    listeners = json.load(answer).get("listener_statuses", [])
                with urllib.request.urlopen(f"http://{address}/ready", timeout=5) as answer:
                    ready = answer.status == 200
            except OSError:
                time.sleep(0.02)
                continue
            if ready and len(listeners) == len(self._filters):
                self.admin = address
                return {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in listeners}
            time.sleep(0.02)
        log = self._log.read_text(errors="replace")[-4000:]
        raise RuntimeError(f"Envoy was not ready in time:\n{log}")


def bootstrap(filters: Iterable[Filter], upstream: int, callout: int, closed: int) -> dict[str, Any]:
    """Envoy's configuration; everything that it would add to messages of its own accord is switched off."""
    return {
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [_listener(each) for each in filters],
            "clusters": [_cluster("upstream", upstream), _cluster("callout", callout), _cluster("refused", closed)],
        },
    }


def _listener(plugin: Filter) -> dict[str, Any]:
    route = {"name": "lab-route", "match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "HTTP2",
        "stat_prefix": plugin.name,
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "skip_xff_append": True,
        "http2_protocol_options": _windows(),
        "http_filters": [
            {"name": plugin.name, "typed_config": _wasm(plugin)},
            {
                "name": "router",
                "typed_config": {
                    "@type": f"{EXTENSIONS}.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "route_config": {
            "name": "lab",
            "virtual_hosts": [{"name": "lab-host", "domains": ["*"], "routes": [route]}],
        },
    }
    return {
        "name": plugin.name,
        "address": _address(0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _wasm(plugin: Filter) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": plugin.name,
        "root_id": plugin.name,
        "failure_policy": plugin.policy,
        "vm_config": {
            "vm_id": plugin.name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(plugin.module)}},
        },
    }
    if plugin.configuration:
        config["configuration"] = {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": plugin.configuration,
        }
    return {"@type": f"{EXTENSIONS}.filters.http.wasm.v3.Wasm", "config": config}


def _cluster(name: str, port: int) -> dict[str, Any]:
    protocol = {
        "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": _windows()},
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
    }


def _windows() -> dict[str, int]:
    return {"initial_stream_window_size": 1 << 24, "initial_connection_window_size": 1 << 24}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
