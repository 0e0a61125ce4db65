from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .chain import Chain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A controller, an agent and an Envoy of one test's own."""
    running = Chain(tmp_path)
    yield running
    running.close()
