"""The page of a run: one self-contained HTML file."""

import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, StrictUndefined
from PIL import Image
from rich.progress import track

from ppar_lightning.analysis.loaded_run import LoadedRun, load_run
from ppar_lightning.callbacks.loggers import stay_offline_without_account
from ppar_lightning.callbacks.results import without_nan
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.report.chart import GROUPS, draw_curves
from ppar_lightning.report.panels import WEIGHTS, Panel, predictions, weight_maps
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import mean_title, number
from ppar_lightning.runs.run_folder import CONFIG
from ppar_lightning.runs.tested_run import read_confusion, read_test

Matrix = dict[str, list[float]]
"""Name of a row -> its cells, one for each class."""


def write_page(folder: Path, output: Path | None = None, images: int = 60, project: str | None = None) -> Path:
    """Write the page of a run. Where the run lacks a part, the page says why.

    Args:
        folder: The run folder.
        output: The file; by default ``report.html`` in the run folder.
        images: Number of evaluation images of each domain, from the start of its split, among which the best and the
            worst are found; at least 0.
        project: W&B project that the page, its matrices and its pictures are also logged to; None logs nothing.

    Returns:
        Path of the written file.

    Raises:
        FileNotFoundError: There is no such run, it has no checkpoint, or its data is not where the config says.
        ValueError: ``output`` is a folder.
    """
    path = output or folder / "report.html"
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file with --output, {path / 'report.html'} for example")
    run = load_run(folder)
    run.module.to("cuda" if torch.cuda.is_available() else "cpu")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"number": number, "shade": shade, "mean_title": mean_title, "zip": zip, "nan": math.nan}
    environment.globals |= {"unseen_label": UNSEEN, "groups": GROUPS}
    template = environment.from_string((files(__package__) / "page.html.j2").read_text())
    content = {
        "run": run,
        "classes": run.data.classes,
        "title": folder.resolve().name,
        "images": images,
        **_test(folder),
        **_pictures(run, images),
    }
    content |= {"prototypes": _prototypes(run), "curves": draw_curves(folder), "manifest": read_manifest(folder)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(content))
    if project is not None:
        _log(path, content, project)
    return path


def shade(value: float, scale: float) -> float:
    """Return the strength of a cell's colour in [-1, 1], full at ``scale``; 0 for NaN."""
    return 0.0 if math.isnan(value) else round(max(-1.0, min(1.0, value / scale)), 3)


def row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """Return each cell in per cent of the sum of its row, (R, C); NaN in a row without counts."""
    total = counts.sum(axis=1, keepdims=True)
    return 100 * counts / np.where(total == 0, math.nan, total)


def named_rows(cells: npt.NDArray[np.floating], classes: Sequence[str]) -> Matrix:
    """Name the rows of a (K, K) array after the classes; a further row and column of predictions of others are cut."""
    return dict(zip(classes, cells[: len(classes), : len(classes)].tolist(), strict=True))


def _test(folder: Path) -> dict[str, Any]:
    """Collect the results of ``ppar test``; ``absent`` says why a part of them is missing."""
    try:
        test = read_test(folder)
    except FileNotFoundError as error:
        return {"test": None, "heat": {}, "confusion": {}, "absent": str(error)}
    counts, again = read_confusion(folder), f"run `ppar test --config {folder / CONFIG}`"
    titles = {name: f"{name} ({s.role}, protocol {s.protocol}, {s.counted} images)" for name, s in test.scores.items()}
    ious = [[100 * score.iou.get(label, math.nan) for label in test.classes] for score in test.scores.values()]
    shares = {titles[name]: row_shares(counts[name]) for name in titles if name in counts}
    return {
        "test": test,
        "confusion": {f"Confusion on {title}": named_rows(each, test.classes) for title, each in shares.items()},
        "absent": f"This run was tested before confusion matrices were kept: {again}.",
        "heat": dict(zip(titles.values(), ious, strict=True)),
    }


def _pictures(run: LoadedRun, images: int) -> dict[str, Any]:
    """Draw predictions for evaluation images and, if the run was trained with reweighting, weights of source images."""
    grids: dict[str, list[Panel]] = {}
    for domain in track(run.domains, f"Predicting up to {images} images of each domain"):
        role = "unseen" if domain in run.data.unseen else "source"
        title = f"{domain} ({role}, protocol {run.data.protocol_titles[domain]})"
        grids[title] = predictions(run, domain, images)
    options = run.module.options
    weighted = run.module.objective is not None and options.reweighting != "off" and options.eta > 0
    return {"grids": grids, "weights": weight_maps(run) if weighted else [], "weight_range": WEIGHTS}


def _prototypes(run: LoadedRun) -> dict[str, Matrix]:
    """Return caption -> matrix of cosines; empty for a run without prototypes."""
    if run.module.objective is None:
        return {}
    memory = run.module.objective.prototypes
    otp, vtp = (anchors.cpu().numpy() for anchors in (memory.otp, memory.bank))
    return {
        "Cosines of OTP, of the text alone": named_rows(otp @ otp.T, run.data.classes),
        "Cosines of VTP, the bank of text refined by visual context": named_rows(vtp @ vtp.T, run.data.classes),
        "Cosine of each class's VTP and OTP": {"cos(VTP, OTP)": np.sum(otp * vtp, 1).tolist()},
    }


def _log(page: Path, content: dict[str, Any], project: str) -> None:
    """Log a page with its matrices and pictures to a W&B run of its own; W&B's files go to the run folder."""
    import wandb

    def images(panels: Iterable[Panel]) -> list[wandb.Image]:
        tiles = ((panel.caption, *tile) for panel in panels for tile in panel.tiles.items())
        # The tiles are data URIs: nothing is fetched.
        return [wandb.Image(Image.open(urlopen(uri)), caption=f"{title}: {caption}") for caption, title, uri in tiles]

    def table(matrix: Matrix) -> wandb.Table:
        rows = without_nan([[name, *cells] for name, cells in matrix.items()])
        return wandb.Table(columns=["", *content["classes"]], data=rows)

    stay_offline_without_account("WandbLogger")
    logged: dict[str, Any] = {f"report/predictions/{name}": images(grid) for name, grid in content["grids"].items()}
    logged |= {"report/classes": table(content["heat"])} if content["heat"] else {}
    for part in ("confusion", "prototypes"):
        logged |= {f"report/{part}/{caption}": table(matrix) for caption, matrix in content[part].items()}
    logged |= {"report/page": wandb.Html(str(page), inject=False), "report/weights": images(content["weights"])}
    folder = str(content["run"].folder)
    group = ((content["manifest"] or {}).get("wandb") or {}).get("group")
    title = f"{content['title']} report"
    with wandb.init(project=project, name=title, job_type="report", group=group, dir=folder) as run:
        run.log(logged)
