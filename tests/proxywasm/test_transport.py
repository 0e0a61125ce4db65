"""Plain httpx clients through plugins, to everything that can be behind them."""

from __future__ import annotations

import asyncio
import http.server
import threading

import httpx
import pytest

from labkit.proxywasm import AsyncPluginTransport, Plugin, PluginTransport, Request, Response, StreamInfo, abi

from .probe import probe_wat

ADD = (
    "(drop (call $proxy_add_header_map_value (i32.const {}) (i32.const 16) (i32.const 3) (i32.const 19) (i32.const 1)))"
    " (i32.const 0)"
)
FUNCTIONS = [abi.host_functions(abi.V0_2_1)["env", "proxy_add_header_map_value"]]


@pytest.fixture
def plugin() -> Plugin:
    """Adds `x-p: 1` to requests and responses."""
    callbacks = {"proxy_on_request_headers": ADD.format(0), "proxy_on_response_headers": ADD.format(2)}
    return Plugin.load(probe_wat(abi.V0_2_1, FUNCTIONS, callbacks, '(data (i32.const 16) "x-p1")').encode())


async def app(scope, receive, send):
    message = await receive()
    headers = dict(scope["headers"])
    text = b" ".join(
        (scope["method"].encode(), scope["raw_path"], scope["query_string"], headers[b"x-p"], message["body"])
    )
    await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"1"), (b"a", b"2")]})
    await send({"type": "http.response.body", "body": text[:5], "more_body": True})
    await send({"type": "http.response.body", "body": text[5:]})


def function(request: Request) -> Response:
    text = " ".join((request.method, *request.path.partition("?")[::2], request.headers["x-p"], request.body.decode()))
    return Response(201, [("a", "1"), ("a", "2")], text)


def mock(request: httpx.Request) -> httpx.Response:
    parts = (
        request.method,
        request.url.path,
        request.url.query.decode(),
        request.headers["x-p"],
        request.read().decode(),
    )
    return httpx.Response(201, headers=[("a", "1"), ("a", "2")], content=" ".join(parts))


def check(response: httpx.Response) -> None:
    assert (response.status_code, response.text) == (201, "POST /p q=1 1 body")
    assert response.headers.get_list("a") == ["1", "2"]
    assert response.headers["x-p"] == "1"
    assert response.extensions["labkit"].sent_by == "upstream"


@pytest.mark.parametrize("upstream", [app, function, httpx.MockTransport(mock)], ids=["asgi", "callable", "transport"])
def test_a_client(plugin, upstream):
    with httpx.Client(transport=PluginTransport(plugin, upstream)) as client:
        check(client.post("http://lab.test/p?q=1", content=b"body"))


@pytest.mark.parametrize("upstream", [app, function, httpx.MockTransport(mock)], ids=["asgi", "callable", "transport"])
def test_an_async_client(plugin, upstream):
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=AsyncPluginTransport([plugin], upstream)) as client:
            return await client.post("http://lab.test/p?q=1", content=b"body")

    check(asyncio.run(run()))


def test_a_real_upstream(plugin):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"{self.path} {self.headers['x-p']} {self.headers['host']}".encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with httpx.Client(transport=PluginTransport(plugin)) as client:
            port = server.server_address[1]
            assert client.get(f"http://127.0.0.1:{port}/x").text == f"/x 1 127.0.0.1:{port}"
        server.shutdown()


def test_facts_about_the_stream_come_from_the_request(plugin):
    transport = PluginTransport(plugin, function, info=lambda request: StreamInfo(route=request.url.host))
    with httpx.Client(transport=transport) as client:
        result = client.get("http://lab.test/").extensions["labkit"]
    assert result.forwarded.cluster == ""


def test_many_threads_through_one_plugin(plugin):
    with httpx.Client(transport=PluginTransport(plugin, function)) as client:
        answers = []

        def work() -> None:
            answers.extend(client.get("http://lab.test/").status_code for _ in range(20))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [201] * 80


def test_a_reset_is_a_protocol_error():
    close = abi.host_functions(abi.V0_2_1)["env", "proxy_close_stream"]
    body = "(drop (call $proxy_close_stream (i32.const 0))) (i32.const 1)"
    plugin = Plugin.load(probe_wat(abi.V0_2_1, [close], {"proxy_on_request_headers": body}).encode())
    client = httpx.Client(transport=PluginTransport(plugin, function))
    with client, pytest.raises(httpx.RemoteProtocolError, match="wasm_close_stream"):
        client.get("http://lab.test/")
