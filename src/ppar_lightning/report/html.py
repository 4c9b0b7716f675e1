"""The page of a run: one self-contained HTML file."""

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jinja2 import Environment, StrictUndefined
from rich.progress import track

from ppar_lightning.analysis.loaded_run import LoadedRun, load_run
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.report.chart import GROUPS, draw_curves
from ppar_lightning.report.panels import WEIGHTS, Panels, predictions, weight_maps
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import mean_title, number
from ppar_lightning.runs.run_folder import CONFIG
from ppar_lightning.runs.tested_run import read_confusion, read_test, with_interval

MOST = 65
"""Largest number of classes of which a matrix shows all."""


def write_page(folder: Path, output: Path | None = None, images: int = 60) -> Path:
    """Write the page of a run. Where the run lacks a part, the page says why.

    Args:
        folder: The run folder.
        output: The file; by default ``report.html`` in the run folder.
        images: Number of evaluation images of each domain, from the start of its split, among which the best and the
            worst are found; at least 0.

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
    environment.globals |= {"unseen_label": UNSEEN, "groups": GROUPS, "with_interval": with_interval}
    template = environment.from_string((files(__package__) / "page.html.j2").read_text())
    content = {"run": run, "title": folder.resolve().name, "images": images, "prototypes": _prototypes(run)}
    content |= {**_test(folder), **_pictures(run, images)}
    content |= {"curves": draw_curves(folder), "manifest": read_manifest(folder)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(content))
    return path


def shade(value: float, scale: float) -> float:
    """Return the strength of a cell's colour in [-1, 1], full at ``scale``; 0 for NaN."""
    return 0.0 if math.isnan(value) else round(max(-1.0, min(1.0, value / scale)), 3)


def matrix(cells: npt.NDArray[Any], classes: Sequence[str], weight: npt.NDArray[Any]) -> pd.DataFrame:
    """Name the rows and columns of a matrix; of more than MOST classes, keep those of the largest weight.

    Args:
        cells: (K, K), or (K + 1, K + 1) with predictions of other classes in the last column, and no such ground truth.
        classes: Names of the K classes.
        weight: (K,) or more.
    """
    number = len(classes)
    kept = np.sort(np.argsort(-weight[:number], kind="stable")[:MOST])
    columns = [*kept, *range(number, len(cells))]
    names = [*classes, "other classes"]
    return pd.DataFrame(cells[np.ix_(kept, columns)], [names[k] for k in kept], [names[k] for k in columns])


def _test(folder: Path) -> dict[str, Any]:
    """Collect the results of ``ppar test``; ``absent`` says why a part of them is missing."""
    try:
        test = read_test(folder)
    except FileNotFoundError as error:
        return {"test": None, "heat": None, "confusion": {}, "absent": str(error)}
    counts, again = read_confusion(folder), f"run `ppar test --config {folder / CONFIG}`"
    titles = {name: f"{name} ({s.role}, protocol {s.protocol}, {s.counted} images)" for name, s in test.scores.items()}
    heat = pd.DataFrame([score.iou for score in test.scores.values()], [*titles.values()], [*test.classes])
    part = f", the {MOST} of {len(test.classes)} classes with the most pixels" * (len(test.classes) > MOST)
    confusion = {}
    for name in filter(titles.get, counts):
        total = counts[name].sum(axis=1)
        shares = 100 * counts[name] / np.where(total == 0, math.nan, total)[:, None]
        confusion[f"Confusion on {titles[name]}{part}"] = matrix(shares, test.classes, total)
    absent = f"This run was tested before confusion matrices were kept: {again}."
    return {"test": test, "heat": 100 * heat, "confusion": confusion, "absent": absent}


def _pictures(run: LoadedRun, images: int) -> dict[str, Any]:
    """Draw predictions for evaluation images and, if the run was trained with reweighting, weights of source images."""
    grids: dict[str, Panels] = {}
    for domain in track(run.domains, f"Predicting up to {images} images of each domain"):
        role = "unseen" if domain in run.data.unseen else "source"
        title = f"{domain} ({role}, protocol {run.data.protocol_titles[domain]})"
        grids[title] = predictions(run, domain, images)
    options = run.module.options
    weighted = run.module.objective is not None and options.reweighting != "off" and options.eta > 0
    return {"grids": grids, "weights": weight_maps(run) if weighted else {}, "weight_range": WEIGHTS}


def _prototypes(run: LoadedRun) -> dict[str, pd.DataFrame]:
    """Return caption -> matrix of cosines; empty for a run without prototypes."""
    if run.module.objective is None:
        return {}
    memory, classes = run.module.objective.prototypes, run.data.classes
    found, part = {}, f", the {MOST} of {len(classes)} classes closest to another one" * (len(classes) > MOST)
    for kind, anchors in {
        "OTP, of the text alone": memory.otp,
        "VTP, the bank of text refined by visual context": memory.bank,
    }.items():
        cosines = (anchors @ anchors.T).cpu().numpy()
        closest = np.where(np.eye(len(classes)) == 1, -1, cosines).max(axis=1)
        found[f"Cosines of {kind}{part}"] = matrix(cosines, classes, closest)
    own = (memory.otp * memory.bank).sum(dim=1).cpu().numpy()
    return found | {"Cosine of each class's VTP and OTP": pd.DataFrame([own], ["cos(VTP, OTP)"], [*classes])}
