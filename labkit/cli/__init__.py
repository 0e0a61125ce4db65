"""The `labkit` command: a thin layer that parses arguments, calls the library and prints."""

from labkit.cli.app import main

__all__ = ["main"]
