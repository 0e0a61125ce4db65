"""The pytest plugin: fixtures that load plugins, and suites collected as tests.

pytest loads this module in every run on a machine that has labkit. It imports nothing of labkit until somebody uses a
fixture or a suite is collected, and it collects only what the ini file lists or what is named and written as a suite.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labkit.proxywasm import Host, Module, Plugin
    from labkit.testing.parse import Suite

_NAMES = re.compile(r".+[_.-]tests?\.(ya?ml|textpb|textproto)|tests?[_.-].+\.(textpb|textproto)")
_FORMATS = (".yaml", ".yml", ".textpb", ".textproto", ".txtpb", ".pbtxt", ".prototxt", ".pb.txt")
_NAMES_PLUGIN = re.compile(rb"^\s*(env\s*:?\s*\{.*)?wasm_path\s*:", re.MULTILINE)
_SNIFFED_BYTES = 1 << 20

WasmPlugin = Callable[..., "Plugin"]
"""The type of the fixture `wasm_plugin`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini options `labkit_plugin`, `labkit_config` and `labkit_suites`."""
    parser.addini("labkit_plugin", "the Wasm plugin that tests load by default; relative to the root directory")
    parser.addini("labkit_config", "file with the configuration of labkit_plugin; relative to the root directory")
    parser.addini("labkit_suites", "patterns of the test suites (text-proto, YAML) to run as tests", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "wasm_plugin(source, **options): the plugin that the fixture wasm_plugin loads by default"
    )


@pytest.fixture
def wasm_host() -> Iterator[Host]:
    """What the plugins of one test share: a clock that stands still, clusters, metrics, shared data."""
    from labkit.proxywasm import FakeClock, Host, LogLevel

    host = Host(clock=FakeClock(), log_level=LogLevel.TRACE, seed=1)
    yield host
    host.close()


@pytest.fixture(scope="session")
def _wasm_modules() -> dict[tuple[str, int, int], Module]:
    """Modules that were loaded before, by path, time and size of the file."""
    return {}


@pytest.fixture
def wasm_plugin(
    request: pytest.FixtureRequest, wasm_host: Host, _wasm_modules: dict[tuple[str, int, int], Module]
) -> Iterator[WasmPlugin]:
    """Load plugins: `plugin = wasm_plugin("plugin.wasm", config={…})`.

    Without a source, the one of the marker `wasm_plugin`, or of the ini option `labkit_plugin`. A relative path is
    looked for beside the test, then from the root directory. Options are those of `Plugin.load`. Every call makes a
    new VM; the module is compiled once a session. Plugins are closed when the test ends.
    """
    loaded: list[Plugin] = []

    def load(source: str | os.PathLike[str] | bytes | None = None, **options: Any) -> Plugin:
        from labkit.proxywasm import Module, Plugin

        if source is None:
            source, given = _default(request.node, request.config)
            options = {**given, **options}
        found: Any = source
        if not isinstance(source, bytes | Module):
            found = _module(_find(source, request), _wasm_modules, options)
        options.setdefault("host", wasm_host)
        # Plugins of one module and configuration would share a VM in this host.
        options.setdefault("vm_id", f"wasm_plugin-{len(loaded)}" if loaded else "")
        plugin = Plugin.load(found, **options)
        loaded.append(plugin)
        return plugin

    yield load
    for plugin in reversed(loaded):
        plugin.close()


def _default(item: pytest.Item, config: pytest.Config) -> tuple[Any, dict[str, Any]]:
    """The source and options that a test's marker or the ini file name."""
    marker = item.get_closest_marker("wasm_plugin")
    if marker is not None:
        if len(marker.args) != 1:
            raise pytest.UsageError("the marker wasm_plugin takes one source, then options by name")
        return marker.args[0], dict(marker.kwargs)
    if named := config.getini("labkit_plugin"):
        options: dict[str, Any] = {}
        if file := config.getini("labkit_config"):
            options["config"] = (config.rootpath / file).read_bytes()
        return config.rootpath / named, options
    raise pytest.UsageError(
        "no plugin: pass one to wasm_plugin(…), mark the test @pytest.mark.wasm_plugin('plugin.wasm'), "
        "or set labkit_plugin in the ini file"
    )


def _find(source: str | os.PathLike[str], request: pytest.FixtureRequest) -> str | Path:
    if isinstance(source, str) and source.startswith("oci://"):
        return source
    beside = request.path.parent / source
    return beside if beside.exists() else request.config.rootpath / source


def _module(source: str | Path, modules: dict[tuple[str, int, int], Module], options: dict[str, Any]) -> Any:
    from labkit.proxywasm import Module

    # Limits and a cache of one's own are part of what is compiled; images are not files.
    if isinstance(source, str) or "limits" in options or "cache" in options or not source.exists():
        return source
    status = source.stat()
    key = (str(source), status.st_mtime_ns, status.st_size)
    if key not in modules:
        modules[key] = Module.load(source)
    return modules[key]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """A suite that the ini option `labkit_suites` lists, or that is named like one and names its plugin."""
    if not file_path.name.endswith(_FORMATS):
        return None
    config = parent.config
    patterns = config.getini("labkit_suites")
    if patterns:
        try:
            path = file_path.relative_to(config.rootpath).as_posix()
        except ValueError:
            return None
        wanted = any(fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(file_path.name, pattern) for pattern in patterns)
    else:
        wanted = _NAMES.fullmatch(file_path.name) is not None and _names_a_plugin(file_path)
    return SuiteFile.from_parent(parent, path=file_path) if wanted else None


def _names_a_plugin(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _NAMES_PLUGIN.search(file.read(_SNIFFED_BYTES)) is not None
    except OSError:
        return False


class SuiteFile(pytest.File):
    """A suite."""

    def collect(self) -> Iterator[SuiteItem]:
        """Its tests."""
        from labkit.errors import LabkitError
        from labkit.testing.parse import load_suite

        try:
            suite = load_suite(self.path)
        except LabkitError as error:
            raise self.CollectError(f"{error.message}\n{error.hint or ''}".rstrip()) from None
        for index, test in enumerate(suite.message.test):
            yield SuiteItem.from_parent(self, name=test.name or f"test[{index}]", suite=suite, index=index)


class SuiteItem(pytest.Item):
    """A test of a suite."""

    def __init__(self, *, suite: Suite, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.suite = suite
        self.index = index

    def runtest(self) -> None:
        """Run it."""
        from labkit.testing.runner import prepare, run_test

        plugin: Any = None
        options: dict[str, Any] = {}
        if not self.suite.message.env.wasm_path:
            plugin, options = _default(self, self.config)
        bench = prepare(self.suite, plugin=plugin, config=options.get("config"))
        result = run_test(bench, self.suite.message.test[self.index])
        for log in result.logs:
            self.add_report_section("call", "plugin log", f"{log.phase}: {log.line}\n")
        if not result.passed:
            raise SuiteFailed("\n".join(map(str, result.failures)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was expected and what there was, rather than where labkit found out."""
        from labkit.errors import LabkitError

        error = excinfo.value
        if isinstance(error, SuiteFailed):
            return str(error)
        if isinstance(error, LabkitError):
            return "\n".join(part for part in (error.message, error.details, error.hint) if part)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The suite and the test's name."""
        return self.path, None, f"{self.path.name}: {self.name}"


class SuiteFailed(Exception):
    """Expectations of a suite's test did not hold."""
