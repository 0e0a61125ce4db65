"""The coverage table of the ABI: what is implemented, tested, and different from Envoy.

    python -m labkit.proxywasm.coverage --write docs/abi-coverage.md

Made from the ABI's table, the handlers that are there, and the tests that name a function.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labkit.proxywasm import abi
from labkit.proxywasm.differences import FUNCTIONS, GENERAL
from labkit.proxywasm.hostcalls import implementation

_ROOT = Path(__file__).parents[2]
_NAME = re.compile(r"[a-z_0-9]{4,}")


@dataclass(frozen=True, slots=True)
class Row:
    """One function's line of the table.

    Attributes:
        function: The function.
        implemented: Whether there is a handler, or for a callback, whether the host calls it.
        tests: How many tests name it.
        difference: How it differs from Envoy; empty when it does not.
    """

    function: abi.Function
    implemented: bool
    tests: int
    difference: str


def tests_by_name(directory: Path) -> Counter[str]:
    """How many test functions, with their parameters, mention each name."""
    counts: Counter[str] = Counter()
    for path in sorted(directory.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Tables and programs at module level belong to each test that uses them.
        tables = {
            target.id: _names(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                used = _names(node)
                for name in _identifiers(node):
                    used |= tables.get(name, set())
                counts.update(used)
    return counts


def _names(node: ast.AST) -> set[str]:
    """Every word in the string literals below."""
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            found.update(_NAME.findall(inner.value))
    return found


def _identifiers(node: ast.AST) -> Iterable[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _implemented(function: abi.Function, source: str) -> bool:
    if function.module:
        try:
            implementation(function)
        except (ImportError, AttributeError):
            return False
        return True
    return re.fullmatch(source, function.name) is not None


def _called() -> str:
    """A pattern that matches the names of the callbacks which the package's code calls."""
    names: set[str] = set()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.stem not in ("abi", "coverage"):
            names.update(
                re.findall(r"proxy_on_[a-z_{}\[\]A-Z]+|proxy_validate_[a-z]+", path.read_text(encoding="utf-8"))
            )
    return "|".join(re.sub(r"\{[^}]*\}", "[a-z]+", name) for name in sorted(names))


def rows(directory: Path) -> list[Row]:
    """The whole table, host functions first; WASI once, under its newer name."""
    counts = tests_by_name(directory)
    source = _called()
    table = []
    for function in (*abi.HOST_FUNCTIONS, *abi.CALLBACKS):
        if function.module == abi.WASI_MODULES[1]:
            continue
        tests = counts[function.name] + (counts[function.short_name] if function.name != function.short_name else 0)
        table.append(Row(function, _implemented(function, source), tests, FUNCTIONS.get(function.name, "")))
    return table


def markdown(table: list[Row]) -> str:
    """The table as a page of the docs."""
    lines = [
        "# Coverage of the proxy-wasm ABI",
        "",
        "Made by `python -m labkit.proxywasm.coverage --write docs/abi-coverage.md`; don't edit.",
        "",
        f"ABI versions: {', '.join(abi.VERSIONS)} (the last one is Higress'). "
        f"{sum(bool(row.function.module) for row in table)} host functions, "
        f"{sum(not row.function.module for row in table)} callbacks.",
        "",
    ]
    for title, callbacks in (("Host functions", False), ("Callbacks", True)):
        lines += [f"## {title}", "", "| function | ABI | group | implemented | tests | differs from Envoy |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in table:
            function = row.function
            if callbacks is not bool(function.module):
                versions = "all" if function.versions == abi.VERSIONS else ", ".join(function.versions)
                lines.append(
                    f"| `{function.name}` | {versions} | {function.group} | {'yes' if row.implemented else 'no'} "
                    f"| {row.tests} | {row.difference} |"
                )
        lines.append("")
    lines += ["## Differences that concern no single function", ""]
    lines += ["Those that the comparison with a real Envoy found are in [differences.md](differences.md).", ""]
    lines += [f"- **{what}.** {why}" for what, why in GENERAL]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, default=_ROOT / "tests" / "proxywasm", help="directory of the tests")
    parser.add_argument("--write", type=Path, help="file to write instead of standard output")
    options = parser.parse_args()
    text = markdown(rows(options.tests))
    if options.write is None:
        print(text, end="")
        return
    descriptor, temporary = tempfile.mkstemp(dir=options.write.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, options.write)


if __name__ == "__main__":
    main()
