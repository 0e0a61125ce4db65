"""What the command prints and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from labkit.errors import LabkitError


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    # In a file or a pipe nothing is gained by folding a table at 80 columns.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, soft_wrap=True, width=240)


out = _console(stderr=False)
err = _console(stderr=True)


def print_json(document: Any) -> None:
    """Print `document` as the one JSON document on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_error(error: LabkitError, *, as_json: bool) -> None:
    """Say on stderr what went wrong and what to do; with `as_json` also as a document on stdout."""
    err.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.details:
        err.print(escape(error.details))
    if error.hint:
        err.print(f"[bold]what to do:[/] {escape(error.hint)}")
    if as_json:
        print_json({"error": {"message": error.message, "hint": error.hint, "details": error.details}})


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on, with the time it takes; yields the function that changes the text.

    On a terminal it is one line that moves; in a log, one line a change.
    """
    if not err.is_terminal:
        yield lambda line: print(f"labkit: {line}", file=sys.stderr, flush=True)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title)
        yield lambda line: bar.update(task, description=escape(line))
