"""The coverage table is whole, and the page made from it is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.proxywasm import abi
from labkit.proxywasm.coverage import markdown, rows
from labkit.proxywasm.differences import FUNCTIONS

HERE = Path(__file__).parent
TABLE = rows(HERE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.function.name}-{row.function.versions[0]}")
def test_every_function_is_implemented_and_tested(row):
    assert row.implemented
    assert row.tests > 0


def test_differences_name_functions_of_the_table():
    assert set(FUNCTIONS) <= {function.name for function in (*abi.HOST_FUNCTIONS, *abi.CALLBACKS)}


def test_the_page_is_up_to_date():
    page = HERE.parent.parent / "docs" / "abi-coverage.md"
    without_counts = [line.rsplit("|", 3)[0] for line in markdown(TABLE).splitlines()]
    assert [line.rsplit("|", 3)[0] for line in page.read_text().splitlines()] == without_counts, (
        "run python -m labkit.proxywasm.coverage --write docs/abi-coverage.md"
    )
