"""Push and pull against the lab's own registry, as a real process, and against servers that misbehave."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from labkit import oci
from labkit.errors import UsageError
from labkit.oci.image import DOCKER_MANIFEST, OCI_INDEX

MODULE = b"\0asm\x01\0\0\0"
IMAGE = oci.build_image(MODULE)
NAME = "registry.lab/plugins/mock:1.0.0"


def test_what_was_pushed_is_pulled_by_tag_and_by_digest(registry: Any, mock_module: Path):
    image = oci.build_image(mock_module)
    with registry.client() as client:
        pushed = client.push(image, NAME)
        assert pushed.digest == image.digest == client.resolve(NAME).digest
        assert pushed.uploaded == image.size
        assert client.push(image, NAME).uploaded == len(image.manifest)
        for reference in (NAME, f"registry.lab/plugins/mock@{pushed.digest}"):
            pulled = client.pull(reference)
            assert (pulled.manifest, pulled.config, pulled.layers) == (image.manifest, image.config, image.layers)
    module = oci.pull_module(NAME, mirrors={"registry.lab": registry.address})
    assert module == mock_module.read_bytes()


def test_a_killed_registry_comes_back_with_everything(registry: Any):
    newer = oci.build_image(MODULE + b"\0\0")
    with registry.client() as client:
        client.push(IMAGE, NAME)
        client.push(newer, NAME)
        client.push(IMAGE, "registry.lab/other:1")
        registry.stop(signal.SIGKILL)
        registry.start()
        assert client.pull(NAME).digest == newer.digest
        assert client.pull(f"registry.lab/plugins/mock@{IMAGE.digest}").digest == IMAGE.digest
        assert client.tags("registry.lab/other") == ("1",)


def test_a_deleted_manifest_stays_deleted(registry: Any):
    with registry.client() as client:
        client.push(IMAGE, NAME)
        client.push(IMAGE, "registry.lab/plugins/mock:2")
        url = f"http://{registry.address}/v2/plugins/mock/manifests"
        assert httpx.delete(f"{url}/1.0.0").status_code == 202
        assert httpx.delete(f"{url}/{IMAGE.digest}").status_code == 202
        registry.stop(signal.SIGKILL)
        registry.start()
        assert client.tags(NAME) == ("2",)
        assert httpx.get(f"{url}/{IMAGE.digest}").status_code == 404


def test_an_index_survives_and_leads_to_the_wasm_image(registry: Any):
    entries = [{**IMAGE.descriptor.to_json(), "platform": {"os": "wasip1", "architecture": "wasm"}}]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    with registry.client() as client:
        client.push(IMAGE, f"registry.lab/plugins/mock@{IMAGE.digest}")
        url = f"http://{registry.address}/v2/plugins/mock/manifests/multi"
        assert httpx.put(url, content=index, headers={"content-type": OCI_INDEX}).status_code == 201
        registry.stop(signal.SIGKILL)
        registry.start()
        assert client.pull("registry.lab/plugins/mock:multi").digest == IMAGE.digest


def test_the_registry_ends_cleanly_and_keeps_to_this_machine(registry: Any):
    answer = httpx.get(f"http://{registry.address}/v2/", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert registry.stop() == 0
    refused = subprocess.run(
        [registry.program, "--address", "0.0.0.0:0", "--disk", registry.disk], capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "not a loopback address" in refused.stderr


def test_a_manifest_pushed_under_another_digest_is_refused(registry: Any):
    url = f"http://{registry.address}/v2/plugins/mock/manifests/sha256:{'0' * 64}"
    headers = {"content-type": DOCKER_MANIFEST}
    assert httpx.put(url, content=IMAGE.manifest, headers=headers).status_code == 400


def test_a_blob_changed_on_disk_is_noticed(registry: Any):
    with registry.client() as client:
        client.push(IMAGE, NAME)
        blob = registry.disk / "blobs" / "sha256" / IMAGE.layers[0].digest.removeprefix("sha256:")
        content = blob.read_bytes()
        for changed in (content[:-1] + b"x", content[:-1], content + b"x"):
            blob.write_bytes(changed)
            with pytest.raises(oci.DigestMismatch, match="not what was pushed"):
                client.pull(NAME)


def test_what_is_missing_is_said(registry: Any):
    with registry.client() as client:
        client.push(IMAGE, NAME)
        with pytest.raises(oci.ImageNotFound, match="has no tag 2") as caught:
            client.pull("registry.lab/plugins/mock:2")
        assert caught.value.hint == "it has the tags 1.0.0"
        with pytest.raises(oci.ImageNotFound, match="has no repository nope"):
            client.pull("registry.lab/nope:1")
        with pytest.raises(oci.ImageNotFound, match=f"has no digest sha256:{'0' * 64}"):
            client.pull(f"registry.lab/plugins/mock@sha256:{'0' * 64}")


def test_an_image_larger_than_allowed_is_not_even_begun(registry: Any):
    with registry.client(limit=100) as client:
        client.push(IMAGE, NAME)
        with pytest.raises(oci.ImageTooLarge):
            client.pull(NAME)


def test_a_registry_that_is_away_for_a_moment_is_waited_for(registry: Any):
    registry.stop()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            registry.start()

    with registry.client(sleep=wait) as client:
        client.push(IMAGE, NAME)
    assert waits == sorted(waits)
    registry.stop()
    with registry.client(sleep=lambda _: None) as client, pytest.raises(oci.RegistryUnavailable) as caught:
        client.pull(NAME)
    assert str(caught.value).startswith(f"registry registry.lab (at {registry.address}) does not answer")


Answer = Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """A registry that answers every GET as the test wants."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def registry_with(image: oci.Image) -> Answer:
    blobs = {layer.digest: layer.content for layer in image.layers} | {image.config_descriptor.digest: image.config}

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if "/manifests/" in request.path:
            return 200, {"Content-Type": image.media_type}, image.manifest
        return 200, {}, blobs[request.path.rpartition("/")[2]]

    return answer


def pull(address: str, reference: str = NAME, **options: Any) -> oci.Image:
    with oci.RegistryClient(mirrors={"registry.lab": address}, sleep=lambda _: None, **options) as client:
        return client.pull(reference)


def secret(host: str, password: str = "right") -> str:
    auth = base64.b64encode(f"me:{password}".encode()).decode()
    return json.dumps({"auths": {f"https://{host}/v1/": {"auth": auth}}})


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_credentials_come_from_the_pull_secret(kind: str):
    serve = registry_with(IMAGE)
    basic = "Basic " + base64.b64encode(b"me:right").decode()

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        given = request.headers.get("authorization")
        if request.path.startswith("/token"):
            assert "scope=repository%3Aplugins%2Fmock%3Apull" in request.path
            return (200, {}, b'{"token": "t0ken"}') if given == basic else (401, {}, b"")
        if given == (basic if kind == "basic" else "Bearer t0ken"):
            return serve(request)
        realm = f"http://{request.headers['host']}/token"
        challenge = 'Basic realm="x"' if kind == "basic" else f'Bearer realm="{realm}",service="s"'
        return 401, {"WWW-Authenticate": challenge}, b""

    with server(answer) as address:
        assert pull(address, pull_secret=secret("registry.lab")).digest == IMAGE.digest
        with pytest.raises(oci.AuthenticationFailed, match="does not accept the credentials for plugins/mock"):
            pull(address, pull_secret=secret("registry.lab", "wrong"))
        with pytest.raises(oci.AuthenticationFailed, match="wants credentials"):
            pull(address, pull_secret=secret("elsewhere.example"))
        with pytest.raises(oci.AuthenticationFailed, match="wants credentials"):
            pull(address)


def test_credentials_go_nowhere_but_to_their_registry():
    seen: list[str | None] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        seen.append(request.headers.get("authorization"))
        return registry_with(IMAGE)(request)

    with server(elsewhere) as other:

        def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
            if not request.headers.get("authorization"):
                return 401, {"WWW-Authenticate": "Basic"}, b""
            return 307, {"Location": f"http://{other}{request.path}"}, b""

        with server(answer) as address:
            assert pull(address, pull_secret=secret("registry.lab")).digest == IMAGE.digest
    assert seen
    assert set(seen) == {None}


@pytest.mark.parametrize("target", ["http://example.com/x", "file:///etc/passwd", "http://[", "ftp://127.0.0.1/"])
def test_a_redirect_to_an_unsafe_place_is_not_followed(target: str):
    with server(lambda _: (307, {"Location": target}, b"")) as address, pytest.raises(oci.OciError) as caught:
        pull(address)
    assert caught.value.hint


@pytest.mark.parametrize("host", ["[::1]:1", "localhost:1", "127.9.9.9:1"])
def test_loopback_is_plain_http_and_all_else_https(host: str):
    with oci.RegistryClient() as client:
        assert client._transport.base(host) == f"http://{host}"
        assert client._transport.base("registry.example:5000") == "https://registry.example:5000"
        assert client._transport.base("docker.io") == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (200, {}, b"<html>hello</html>", oci.InvalidImage),
        (200, {}, b"[]", oci.InvalidImage),
        (200, {"Content-Type": "application/vnd.cncf.helm+json"}, b"{}", oci.InvalidImage),
        (200, {"Docker-Content-Digest": "sha256:" + "0" * 64}, IMAGE.manifest, oci.DigestMismatch),
        (200, {}, b" " * (5 << 20), oci.ImageTooLarge),
        (200, {"Content-Length": "999"}, b"cut", oci.RegistryUnavailable),
        (418, {}, b'{"errors": [{"code": "TEAPOT", "message": "short and stout"}]}', oci.RegistryUnavailable),
        (503, {"Retry-After": "1"}, b"", oci.RegistryUnavailable),
        (307, {"Location": "/again"}, b"", oci.RegistryUnavailable),
        (403, {}, b"", oci.AuthenticationFailed),
        (401, {"WWW-Authenticate": 'Bearer realm="http://10.0.0.1/token"'}, b"", oci.OciError),
    ],
)
def test_what_is_no_registry_is_told_from_one(
    status: int, headers: dict[str, str], body: bytes, error: type[oci.OciError]
):
    with server(lambda _: (status, headers, body)) as address, pytest.raises(error) as caught:
        pull(address)
    assert caught.value.hint


def test_a_busy_registry_is_asked_again():
    serve, calls = registry_with(IMAGE), iter(range(100))
    with server(lambda request: (429, {}, b"") if next(calls) % 2 == 0 else serve(request)) as address:
        assert pull(address).digest == IMAGE.digest


def test_another_image_under_the_digest_is_refused():
    with server(registry_with(IMAGE)) as address, pytest.raises(oci.DigestMismatch):
        pull(address, f"registry.lab/plugins/mock@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "{}",
        "[]",
        '{"auths": []}',
        '{"auths": {"a": {"auth": "%"}}}',
        '{"auths": {"a": {"username": "u"}}}',
    ],
)
def test_a_broken_pull_secret_is_refused_and_not_shown(text: str):
    with pytest.raises(UsageError, match="the pull secret is no dockerconfigjson"):
        oci.read_dockerconfigjson(text)
    assert "right" not in repr(oci.read_dockerconfigjson(secret("a.example"))["a.example"])
