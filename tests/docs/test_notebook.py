"""The example notebook runs as it is, and its stored outputs come from such a run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs/notebook.ipynb"


def test_the_stored_notebook_is_executed_and_names_no_place() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not [word for word in ("/home/", "/root/", "/tmp/", "Traceback") if word in text]


@pytest.mark.cell
@pytest.mark.slow
@pytest.mark.long
def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [str(output) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [one for one in shown if "Traceback" in one]
    assert sum("replicated" in one for one in shown) >= 2
    assert (tmp_path / "out/notebook/results.json").exists()
