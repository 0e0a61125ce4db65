"""The commands that measure: bench host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from labkit.cli.console import err, out, progress


def register(app: typer.Typer) -> None:
    """Add these commands to `app`, below `bench`."""
    bench = typer.Typer(help="Measure, side by side in one run.", no_args_is_help=True, rich_markup_mode=None)
    bench.command(epilog="Examples: labkit bench host; labkit bench host --rounds 5 --json")(host)
    # A command of its own keeps `bench host` two words while it is the only one.
    bench.callback()(_bench)
    app.add_typer(bench, name="bench", epilog="Example: labkit bench host --json")


def _bench() -> None:
    """Measure, side by side in one run."""


def host(
    plugin: Annotated[
        Path | None, typer.Option(help="A compiled mock plugin; plugins/mock is compiled if left out.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds of the plain request.")] = 15,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Time one whole request in the embedded host, in proxytest, in a naive host and in a Rust host, in turns."""
    from labkit import resources, toolchains
    from labkit.experiments.bench_host import bench_host
    from labkit.lab.settings import Layout, default_home

    cache = Layout(default_home()).cache
    with progress("measuring") as on_progress:
        module = plugin or toolchains.build(resources.path("plugins/mock"), cache / "bench_mock.wasm").module
        report = bench_host(module, cache / "bench", rounds=rounds, on_progress=on_progress)
    for name, reason in report.skipped.items():
        err.print(f"without {name}: {reason}", markup=False)
    if json:
        print(report.to_json())
        return
    table = Table("host", "µs a request", "rounds", box=None, header_style="bold")
    for row in report.rows:
        table.add_row(row.name, f"{row.us_per_request:.1f}", str(row.rounds))
    out.print(table)
    out.print(f"loading the plugin from the cache of compiled modules: {report.load_ms:.1f} ms")
