"""The `labkit` application: its commands, and how errors become an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit import __version__
from labkit.cli import bench, gateway, lab, plugin, testing
from labkit.cli.console import print_error
from labkit.errors import LabkitError

app = typer.Typer(
    name="labkit",
    help="Learn by doing how a gateway plugin in WebAssembly is written, shipped, hot-loaded and measured.",
    epilog="Start with: labkit demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
lab.register(app)
plugin.register(app)
gateway.register(app)
bench.register(app)
testing.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"labkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    home: Annotated[
        Path | None,
        typer.Option(help="Where the lab's state, logs and caches live.", envvar="LABKIT_HOME", show_envvar=True),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if home:
        os.environ["LABKIT_HOME"] = str(home.resolve())


def main() -> None:
    """Run the command line in `sys.argv`; exits with 0, or with the error's own code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        app(arguments)
    except SystemExit as end:
        # How typer ends: 0, 2 for a usage error it has printed itself, 130 after Ctrl-C.
        return end.code if isinstance(end.code, int) else 0
    except LabkitError as error:
        print_error(error, as_json="--json" in arguments)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "labkit":
            raise
        needed = LabkitError(
            f"this command needs the package that provides {error.name!r}", hint="pip install 'labkit[lab]'"
        )
        print_error(needed, as_json="--json" in arguments)
        return needed.exit_code
    except BrokenPipeError:
        # The reader of stdout went away (`labkit logs | head`); nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        failed = _from_system(error)
        print_error(failed, as_json="--json" in arguments)
        return failed.exit_code
    return 0


def _from_system(error: OSError) -> LabkitError:
    """What the system refused, when no part of the library has words of its own for it: a full disk, no rights."""
    where = f"{error.filename}: " if error.filename else ""
    return LabkitError(
        f"{where}{error.strerror or error}",
        hint="is it writable, is there space? labkit doctor checks the lab's directory" if where else None,
    )
