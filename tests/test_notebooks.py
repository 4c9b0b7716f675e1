"""Every notebook runs on a small run folder, wherever it is started, through the public API."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from test_cli import SMALL, evaluate, fit
from test_own_classes import FIVE, STREET, config

from ppar_lightning.cli import main

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SCORES = ("01_prototypes", "04_results")
"""Notebooks that also show the scores of `ppar test`."""


def setup_of(path: Path) -> str:
    """The first cell with code, which finds the run."""
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook as it ran with a working directory."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with `runs/demo`, `runs/baseline` and `notebooks`, as in the repository."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "notebooks").mkdir()
    kept = ("--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1")
    evaluate(fit(folder / "runs" / "demo", *kept))
    evaluate(fit(folder / "runs" / "baseline", "--model.ppar.enabled", "false"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, home, tmp_path, monkeypatch):
    places = {"01": home, "02": home / "notebooks", "03": home / "notebooks", "04": tmp_path}  # the last is elsewhere
    monkeypatch.setenv("PPAR_BASELINE", str(home / "runs" / "baseline"))
    if path.stem.startswith("04"):
        monkeypatch.setenv("PPAR_RUN", str(home / "runs" / "demo"))
    notebook = executed(path, places[path.stem[:2]])
    assert any(output.get("data", {}).get("image/png") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_notebooks_follow_the_classes_of_a_run(clip_folder, tmp_path, monkeypatch):
    main(["fit", "--config", config(tmp_path, FIVE, clip_folder)])
    evaluate(tmp_path / "run")
    monkeypatch.setenv("PPAR_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PPAR_BASELINE", str(tmp_path / "run"))
    for path in NOTEBOOKS:
        outputs = [each for cell in executed(path, tmp_path).cells for each in cell.get("outputs", [])]
        assert not STREET.search(str([each.get("text") for each in outputs]))


@pytest.mark.slow
def test_a_notebook_without_a_run_says_in_a_line_what_makes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises(CellExecutionError) as stopped:
            executed(NOTEBOOKS[0], tmp_path)
        assert stopped.value.ename == "SystemExit"
        assert "Traceback" not in stopped.value.traceback
        (command,) = re.findall("`(ppar .*?)`", stopped.value.evalue)
        _, *words = shlex.split(command)
        main(words + SMALL if words[0] == "fit" else words)
    executed(NOTEBOOKS[0], tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_is_found_from_where_the_user_is(path, tmp_path, monkeypatch):
    def found(place: Path) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(place)
        names: dict = {}
        exec(setup_of(path), names)
        return (Path.cwd() / names["folder"]).resolve()

    run = tmp_path / "home" / "runs" / "demo"
    (run / "checkpoints").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(
        SystemExit, match=r"^no run in runs/demo\*: make one with `ppar fit --config demo .* runs/demo`"
    ):
        found(tmp_path / "home")
    (run / "checkpoints" / "last.ckpt").touch()
    if path.stem in SCORES:
        with pytest.raises(SystemExit, match="^runs/demo has no scores yet: make them with `ppar test .*config.yaml`$"):
            found(tmp_path / "home")
    (run / "test.json").touch()
    for place in ("home", "home/notebooks", "home/a/b"):
        assert found(tmp_path / place) == run
    with pytest.raises(SystemExit, match="or set RUN to the folder of a run$"):
        found(tmp_path / "elsewhere")
    newer = run.with_name("demo-20260102-030405")  # as `make demo` names it
    (newer / "checkpoints").mkdir(parents=True)
    for name in ("test.json", "checkpoints/last.ckpt"):
        (newer / name).touch()
    assert found(tmp_path / "home" / "notebooks") == newer
    for named in ("../home/runs/demo", str(run), "~/runs/demo"):
        monkeypatch.setenv("PPAR_RUN", named)
        assert found(tmp_path / "elsewhere") == run


def test_a_kernel_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for path in NOTEBOOKS:
        with pytest.raises(SystemExit, match=r"lacks ppar_lightning: run `pip install -e .\[lite\]`"):
            exec(setup_of(path), {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_small_outputs(path):
    assert path.stat().st_size < 400_000
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    assert outputs
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
