"""Every notebook runs on a small run folder, through the public API and without training code of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_cli import evaluate, fit

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    kept = ("--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1")
    return scored(tmp_path_factory.mktemp("notebooks") / "run", *kept)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Path:
    return scored(tmp_path_factory.mktemp("notebooks") / "baseline", "--model.ppar.enabled", "false")


def scored(folder: Path, *words: str) -> Path:
    fit(folder, *words)
    evaluate(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, run, baseline, monkeypatch):
    monkeypatch.setenv("PPAR_RUN", str(run))
    monkeypatch.setenv("PPAR_BASELINE", str(baseline))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    assert any(output.get("data", {}).get("image/png") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_small_outputs(path):
    assert path.stat().st_size < 400_000
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    assert outputs
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
