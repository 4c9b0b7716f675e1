"""The page of a run: one self-contained HTML file."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, StrictUndefined
from rich.progress import track

from ppar_lightning.analysis.loaded_run import LoadedRun, load_run
from ppar_lightning.images.classes import CLASSES, PALETTE
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.report.chart import draw_curves
from ppar_lightning.report.media import log_page
from ppar_lightning.report.panels import WEIGHTS, Panel, predictions, weight_maps
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import mean_title, number
from ppar_lightning.runs.run_folder import CONFIG, is_run
from ppar_lightning.runs.tested_run import read_confusion, read_test


def write_page(folder: Path, output: Path | None = None, images: int = 60, project: str | None = None) -> Path:
    """Write the page of a run. If the run lacks a part, a sentence says why.

    Args:
        folder: The run folder.
        output: The file; by default ``report.html`` in the run folder.
        images: Number of evaluation images of each domain, the first of its split, to find the best and worst among.
        project: W&B project that the page and its pictures are logged to as well; None logs nothing.

    Returns:
        The file.

    Raises:
        FileNotFoundError: There is no such run, it has no checkpoint, or its data is not where the config says.
        ValueError: The file would be a folder.
    """
    if not is_run(folder):
        raise FileNotFoundError(f"{folder / CONFIG} not found: name the folder of one run")
    path = output or folder / "report.html"
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file with --output, {path / 'report.html'} for example")
    run = load_run(folder)
    run.module.to("cuda" if torch.cuda.is_available() else "cpu")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"number": number, "shade": shade, "mean_title": mean_title, "zip": zip}
    environment.globals |= {"classes": CLASSES, "palette": PALETTE.tolist(), "unseen_label": UNSEEN}
    template = environment.from_string((files(__package__) / "page.html.j2").read_text())
    content = {"run": run, "title": folder.resolve().name, "images": images, **_test(folder), **_pictures(run, images)}
    content |= {"prototypes": _prototypes(run), "curves": draw_curves(folder), "manifest": read_manifest(folder)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(content))
    if project is not None:
        log_page(path, content, project, folder)
    return path


def shade(value: float, scale: float) -> float:
    """Strength of the colour of a cell in [-1, 1], full at ``scale``; 0 for NaN."""
    return 0.0 if math.isnan(value) else round(max(-1.0, min(1.0, value / scale)), 3)


def row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """Each cell in per cent of the sum of its row, (R, C); NaN in a row without counts."""
    total = counts.sum(axis=1, keepdims=True)
    return 100 * counts / np.where(total == 0, math.nan, total)


def _test(folder: Path) -> dict[str, Any]:
    """Collect what ``ppar test`` wrote; ``absent`` says why there is nothing."""
    try:
        test = read_test(folder)
    except FileNotFoundError as error:
        return {"test": None, "notes": [], "confusion": None, "absent": str(error)}
    counts = read_confusion(folder)
    confusion = None if counts is None else {name: row_shares(counts[name]) for name in test.scores if name in counts}
    again = f"This run was tested before confusion matrices were kept: run `ppar test --config {folder / CONFIG}`."
    content = {"test": test, "notes": test.notes, "confusion": confusion, "absent": again}
    content["unseen_means"] = [test.unseen_mean(mean) for mean in test.mean_names]
    content["heat"] = [[100 * score.iou.get(label, math.nan) for label in CLASSES] for score in test.scores.values()]
    content["titles"] = {
        domain: f"{domain} ({score.role}, protocol {score.protocol}, {score.images} images)"
        for domain, score in test.scores.items()
    }
    return content


def _pictures(run: LoadedRun, images: int) -> dict[str, Any]:
    """Draw the predictions for evaluation images and the weights of source images."""
    grids: dict[str, list[Panel]] = {}
    for domain in track(run.domains, f"Predicting up to {images} images a domain"):
        role = "unseen" if domain in run.data.unseen else "source"
        title = f"{domain} ({role}, protocol {run.data.protocol_titles[domain]})"
        grids[title] = predictions(run, domain, images)
    options = run.module.options
    weights: list[Panel] | str = "This run was trained without PPAR: every pixel weighs 1."
    if run.module.objective is not None:
        off = options.reweighting == "off" or options.eta == 0
        weights = "This run was trained without reweighting: every pixel weighs 1." if off else weight_maps(run)
    return {"grids": grids, "weights": weights, "weight_range": WEIGHTS}


def _prototypes(run: LoadedRun) -> dict[str, npt.NDArray[np.floating]] | None:
    """Caption -> cosines; None for a run without prototypes."""
    if run.module.objective is None:
        return None
    memory = run.module.objective.prototypes
    otp, vtp = (anchors.cpu().numpy() for anchors in (memory.otp, memory.bank))
    return {
        "Cosines of OTP, of the text alone": otp @ otp.T,
        "Cosines of VTP, the bank of text refined by visual context": vtp @ vtp.T,
        "Cosine of each class's VTP and OTP": np.sum(otp * vtp, 1)[None],
    }
