"""A registry of images in memory, whose answers a test can hold back, count and guard."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from labkit.oci import Image, build_image


class Registry:
    """Serves what was `put` there on a free port of the loopback interface."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.user = ""
        self._manifests: dict[str, Image] = {}
        self._blobs: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, name: str, module: Path) -> Image:
        """Put an image under `repository:tag`."""
        image = build_image(module)
        self.put_image(name, image)
        return image

    def put_image(self, name: str, image: Image) -> None:
        repository, _, tag = name.partition(":")
        self._manifests[f"/v2/{repository}/manifests/{tag}"] = image
        self._manifests[f"/v2/{repository}/manifests/{image.digest}"] = image
        self._blobs[image.config_descriptor.digest] = image.config
        self._blobs |= {layer.digest: layer.content for layer in image.layers}

    def asked(self, kind: str) -> int:
        """How many requests there were for `manifests` or `blobs`."""
        return sum(f"/{kind}/" in path for path in self.requests)

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        self.open.wait(30)
        if self.user:
            expected = "Basic " + base64.b64encode(self.user.encode()).decode()
            if headers.get("Authorization") != expected:
                return 401, {"WWW-Authenticate": 'Basic realm="registry"'}, b"{}"
        if image := self._manifests.get(path):
            return 200, {"Content-Type": image.media_type, "Docker-Content-Digest": image.digest}, image.manifest
        if content := self._blobs.get(path.rpartition("/")[2]):
            return 200, {"Content-Type": "application/octet-stream"}, content
        return 404, {}, b"{}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, headers, body = registry._answer(self.path, self.headers)  # type: ignore[arg-type]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
