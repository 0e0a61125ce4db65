"""The tutorial runs from the first cell to the last, and is kept without outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import papermill
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> Path:
    return request.param


@pytest.mark.notebook
def test_runs_on_a_lab_from_the_first_cell_to_the_last(notebook, lab, tmp_path):
    papermill.execute_notebook(
        notebook,
        tmp_path / "executed.ipynb",
        parameters={"home": str(lab.layout.home)},
        kernel_name="python3",
        cwd=notebook.parent,
        progress_bar=False,
    )
    executed = json.loads((tmp_path / "executed.ipynb").read_text())
    printed = "".join(
        "".join(output.get("text", [])) for cell in executed["cells"] for output in cell.get("outputs", [])
    )
    assert "0 failed" in printed


def test_holds_no_outputs(notebook):
    kept = subprocess.run([sys.executable, "-m", "nbstripout", "--verify", notebook], capture_output=True, text=True)
    assert kept.returncode == 0, kept.stdout + kept.stderr


def test_has_a_cell_of_parameters_for_papermill(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    assert any("parameters" in cell["metadata"].get("tags", []) for cell in cells)
