from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.proxywasm import FakeClock, Host, LogLevel

from .probe import Probe


@pytest.fixture(scope="session", autouse=True)
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hundreds of tiny modules don't belong into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=["reference", "fast"])
def host(request: pytest.FixtureRequest) -> Host:
    """A host with a clock of its own, once with every call in Python and once with hot ones inside Wasm."""
    return Host(clock=FakeClock(), log_level=LogLevel.TRACE, seed=1, fast=request.param == "fast")


@pytest.fixture
def probe(host: Host) -> Probe:
    return Probe(host=host)
