"""The command that tests plugins: test."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from labkit.cli.console import err, out, print_json
from labkit.errors import UsageError

if TYPE_CHECKING:
    from labkit.testing.benchmark import Benchmark
    from labkit.testing.parse import Suite

_MODULES = (".wasm", ".wat")


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command(
        "test",
        epilog="Examples: labkit test plugin.wasm tests.yaml; labkit test tests.textpb --config config.json; "
        "labkit test plugin.wasm tests.yaml -k auth --junit report.xml; labkit test plugin.wasm tests.yaml --benchmark",
    )(run_suites)


def run_suites(
    paths: Annotated[
        list[str], typer.Argument(metavar="[PLUGIN] SUITE...", help="The plugin, unless the suites name it; suites.")
    ],
    plugin: Annotated[str | None, typer.Option(help="The plugin, instead of env.wasm_path.")] = None,
    config: Annotated[Path | None, typer.Option(help="Its configuration, instead of env.config_path.")] = None,
    loglevel: Annotated[str | None, typer.Option(help="TRACE to CRITICAL, instead of env.log_level.")] = None,
    logfile: Annotated[str | None, typer.Option(help="Append what the plugin logs to this file.")] = None,
    keyword: Annotated[str | None, typer.Option("-k", help="Only tests with this in their name.")] = None,
    functional: Annotated[bool, typer.Option("--test/--no-test", help="Run the tests.")] = True,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", "--bench", help="Time tests with benchmark: true, or all if none has it.")
    ] = False,
    min_time: Annotated[
        float, typer.Option("--benchmark-min-time", min=0.0, max=600.0, help="Seconds for each benchmark.")
    ] = 0.5,
    num_additional_streams: Annotated[
        int | None, typer.Option(min=0, help="Streams under way beside the one that is timed.")
    ] = None,
    additional_stream_advance_rate: Annotated[
        int | None, typer.Option(min=1, help="How many of them go on in each round.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML to this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Run test suites in the format of Google's service-extensions tester (YAML, text-proto); 1 when a test fails."""
    from labkit.proxywasm import Module
    from labkit.testing.benchmark import run_benchmarks
    from labkit.testing.parse import load_suite
    from labkit.testing.report import to_json, to_junit, to_text
    from labkit.testing.results import SuiteResult
    from labkit.testing.runner import prepare, run_test

    named, suites = _sort_arguments(paths)
    source = plugin or named
    loaded = [load_suite(path) for path in suites]
    select = _selection(loaded, keyword)
    with _unusable_plugin():
        module = Module.load(source) if source else None
    data = _read(config) if config else None
    results, benchmarks = [], []
    for suite in loaded:
        with _unusable_plugin():
            bench = prepare(suite, plugin=module, config=data, log_level=loglevel)
        if functional:
            with _open_log(logfile or suite.message.env.log_path, json) as log:
                tests = [run_test(bench, test, log) for test in suite.message.test if select(test.name)]
            results.append(SuiteResult(suite.path, tuple(tests)))
        if benchmark:
            benchmarks += run_benchmarks(
                bench,
                select=select,
                min_time=min_time,
                additional_streams=num_additional_streams,
                advance_rate=additional_stream_advance_rate,
            )
    if junit:
        _write(junit, to_junit(results))
    if json:
        print_json(to_json(results, benchmarks))
    else:
        if functional:
            out.print(to_text(results), markup=False)
        if benchmark:
            _print_benchmarks(benchmarks)
    if not all(result.passed for result in results) or any(item.error for item in benchmarks):
        raise typer.Exit(1)


def _sort_arguments(paths: list[str]) -> tuple[str | None, list[str]]:
    """The plugin, when the first argument is one, and the suites."""
    first = paths[0]
    if first.startswith("oci://") or first.endswith(_MODULES):
        if len(paths) == 1:
            raise UsageError("no test suite", hint="labkit test plugin.wasm tests.yaml")
        return first, paths[1:]
    return None, paths


@contextlib.contextmanager
def _unusable_plugin() -> Iterator[None]:
    """A module that is no plugin is wrong input, not a test that failed."""
    from labkit.proxywasm import PluginError

    try:
        yield
    except PluginError as error:
        raise UsageError(error.message, hint=error.hint, details=error.details) from error


def _selection(suites: list[Suite], keyword: str | None) -> Callable[[str], bool]:
    if keyword is None:
        return lambda name: True
    wanted = keyword.lower()
    if not any(wanted in name.lower() for suite in suites for name in suite.names):
        raise UsageError(f"no test has {keyword!r} in its name", hint="leave out -k to run them all")
    return lambda name: wanted in name.lower()


def _print_benchmarks(benchmarks: list[Benchmark]) -> None:
    table = Table("benchmark", "µs mean", "median", "p95", "rounds", "memory KiB", box=None, header_style="bold")
    for item in benchmarks:
        if item.error:
            err.print(f"{item.name}: {item.error}", markup=False)
            continue
        times = (f"{value:.1f}" for value in (item.mean, item.median, item.p95))
        table.add_row(item.name, *times, str(item.rounds), str(item.memory // 1024))
    out.print(table)


@contextlib.contextmanager
def _open_log(path: str, json: bool) -> Iterator[IO[str] | None]:
    """Where the plugin's log goes; stdout belongs to the JSON document when there is one."""
    if not path:
        yield None
    elif path in ("/dev/stdout", "/dev/stderr"):
        yield sys.stdout if path == "/dev/stdout" and not json else sys.stderr
    else:
        try:
            file = open(path, "a", encoding="utf-8", errors="replace")  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
        with file:
            yield file


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".junit-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
