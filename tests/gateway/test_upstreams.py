"""The demo's upstream services."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, int]]:
    ports = dict(zip(("foo", "bar"), free_ports(2), strict=True))
    arguments = [f"{name}={port}" for name, port in ports.items()]
    process = subprocess.Popen([sys.executable, "-m", "labkit.gateway.upstreams", *arguments])
    for port in ports.values():
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
    yield ports
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


@pytest.fixture
def foo(services: dict[str, int]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{services['foo']}", trust_env=False) as client:
        yield client


def test_each_says_who_it_is_and_what_it_was_asked(foo: httpx.Client, services: dict[str, int]) -> None:
    answer = foo.get("/a/b?c=d")
    assert (answer.status_code, answer.text) == (200, "foo: GET /a/b?c=d\n")
    assert answer.headers["content-type"].startswith("text/plain")
    assert httpx.get(f"http://127.0.0.1:{services['bar']}/", trust_env=False).text == "bar: GET /\n"


def test_bodies_are_read_and_the_connection_kept(foo: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * 70_000
        yield b"y" * 10

    assert foo.post("/", content=b"abc").text == "foo: POST /\n3 bytes of body\n"
    assert foo.post("/", content=chunks()).text == "foo: POST /\n70010 bytes of body\n"
    assert foo.head("/").headers["content-length"] == "12"
    assert foo.get("/").text == "foo: GET /\n"


@pytest.mark.parametrize(
    "garbage",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_is_answered_with_400(services: dict[str, int], garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", services["foo"]), timeout=10) as connection:
        connection.sendall(garbage)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
