"""A small load generator: a few keep-alive connections that ask the same thing over and over."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer under load: Unix time of its arrival, status (0 when there was none), body."""

    at: float
    status: int
    body: bytes


class Load:
    """Requests that flow while something changes; a context manager.

    Args:
        url: What to ask for.
        host: The Host header.
        connections: How many ask at the same time.

    >>> with Load("http://127.0.0.1:8080/foo", "localhost") as load:
    ...     change_a_rule()
    >>> load.failed
    0
    """

    def __init__(self, url: str, host: str, connections: int = 2) -> None:
        self._url = urlsplit(url)
        self._host = host
        self._over = threading.Event()
        self._arrived = threading.Condition()
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(connections)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> int:
        """How many requests got no answer or one that is not a success."""
        return sum(1 for answer in self.answers if not 200 <= answer.status < 300)

    def wait_for(self, condition: Callable[[Answer], bool], timeout: float) -> Answer | None:
        """The first answer from now on that meets `condition`, or None when `timeout` seconds passed."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            seen = len(self.answers)
            while True:
                for answer in self.answers[seen:]:
                    if condition(answer):
                        return answer
                seen = len(self.answers)
                if not self._arrived.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    return None

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=10)
        while not self._over.is_set():
            try:
                connection.request("GET", self._url.path or "/", headers={"Host": self._host})
                response = connection.getresponse()
                status, body = response.status, response.read()
            except (OSError, http.client.HTTPException):
                # A connection that the gateway closed between two requests is a failure too: the article
                # promises that nothing is interrupted.
                connection.close()
                status, body = 0, b""
            with self._arrived:
                self.answers.append(Answer(time.time(), status, body))
                self._arrived.notify_all()
        connection.close()
