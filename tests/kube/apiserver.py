"""The API server as a real process, for tests to start, kill and ask."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import yaml


class ApiServer:
    """One data directory and one port; the process on them can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.kubeconfig = folder / "kubeconfig"
        self.port = 0
        self.log: list[str] = []
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "labkit.kube.apiserver", "--port", str(self.port)]
        command += ["--data", str(self.data), "--kubeconfig", str(self.kubeconfig)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._ready.clear()
        self._reader = threading.Thread(target=self._read_log, args=(self._process.stderr,))
        self._reader.start()
        assert self._ready.wait(60), self.log
        assert self._process.poll() is None, self.log
        self.port = urlsplit(self.cluster["server"]).port or 0

    def _read_log(self, stream: TextIO) -> None:
        """Keep the log; left unread, a full pipe would block the server."""
        with stream:
            for line in stream:
                self.log.append(line)
                if "serving on" in line:
                    self._ready.set()
        self._ready.set()

    @property
    def cluster(self) -> dict[str, Any]:
        return yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]

    @property
    def token(self) -> str:
        return yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]["token"]

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        code = process.wait(timeout=20)
        self._reader.join()
        return code

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, Any]:
        """One request over plain HTTP; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            given = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type, **(headers or {})}
            connection.request(method, path, raw, given)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
        finally:
            connection.close()

    def environment(self) -> dict[str, str]:
        """What a kubectl needs to find this server, and nothing of the user's own."""
        home = str(self.data)
        return {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(self.kubeconfig), "TZ": "UTC"}
