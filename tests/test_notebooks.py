"""Every notebook runs on a small run folder, through the public API and without training code of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_cli import evaluate, fit

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = fit(tmp_path_factory.mktemp("notebooks") / "run")
    evaluate(folder)
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, run, monkeypatch):
    monkeypatch.setenv("PPAR_RUN", str(run))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    assert any(output.get("data", {}).get("image/png") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_small_outputs(path):
    assert path.stat().st_size < 400_000
    assert any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)
