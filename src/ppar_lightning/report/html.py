"""The page of a run: one HTML file that needs nothing beside it."""

import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

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
from ppar_lightning.runs.tested_run import TestedRun, read_confusion, read_test


class Matrix(NamedTuple):
    """A table of numbers whose cells are coloured by value."""

    caption: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: npt.NDArray[np.floating]
    """(R, C); NaN is shown as a dash without colour."""
    form: str = ".0f"
    """Format of a number."""
    scale: float = 100.0
    """Value of the strongest colour."""

    def lines(self) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Yield the label and the cells of each row; a cell is its text and the strength of its colour in [-1, 1]."""
        shades = np.nan_to_num(self.values / self.scale).clip(-1, 1).round(3)
        for label, values, strengths in zip(self.rows, self.values, shades, strict=True):
            texts = [number(value, self.form) for value in values]
            yield label, list(zip(texts, strengths.tolist(), strict=True))


def write_page(folder: Path, output: Path | None = None, images: int = 60, project: str | None = None) -> Path:
    """Write the page of a run; where the run lacks a part, a sentence says why.

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
    template = environment.from_string((files(__package__) / "page.html.j2").read_text())
    content = _test(folder) | _predictions(run, images) | _training(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(content))
    if project is not None:
        log_page(path, content, project, folder)
    return path


def row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """Each cell in per cent of the sum of its row, (R, C); NaN in a row without counts."""
    total = counts.sum(axis=1, keepdims=True)
    return 100 * counts / np.where(total == 0, math.nan, total)


def _test(folder: Path) -> dict[str, Any]:
    """Collect what ``ppar test`` wrote."""
    try:
        run = read_test(folder)
    except FileNotFoundError as error:
        return {"notes": [], "means": [], **dict.fromkeys(("domains", "heat", "confusion"), str(error))}
    titles = {
        domain: f"{domain} ({score.role}, protocol {score.protocol}, {score.images} images)"
        for domain, score in run.scores.items()
    }
    heat = [[100 * score.iou.get(label, math.nan) for label in CLASSES] for score in run.scores.values()]
    counts = read_confusion(folder)
    again = f"This run was tested before confusion matrices were kept: run `ppar test --config {folder / CONFIG}`."
    return {
        "notes": run.notes,
        "means": list(map(mean_title, run.mean_names)),
        "domains": list(_domains(run)),
        "heat": Matrix("IoU (%) by domain and class", list(titles.values()), CLASSES, np.array(heat)),
        "confusion": again
        if counts is None
        else [
            Matrix(f"Confusion on {titles[domain]}", CLASSES, CLASSES, row_shares(counts[domain]))
            for domain in titles
            if domain in counts
        ],
    }


def _domains(run: TestedRun) -> Iterator[tuple[str, str, str, str, list[str]]]:
    """Yield domain, role, protocol, images and means of each domain, and of the mean over the unseen."""
    for domain, score in run.scores.items():
        means = [number(100 * score.means.get(mean, math.nan)) for mean in run.mean_names]
        yield domain, score.role, score.protocol, str(score.images), means
    protocols = dict.fromkeys(score.protocol for score in run.scores.values() if score.unseen)
    if protocols:
        yield UNSEEN, "", ", ".join(protocols), "", [number(100 * run.unseen_mean(mean)) for mean in run.mean_names]


def _predictions(run: LoadedRun, images: int) -> dict[str, Any]:
    """Draw the predictions for evaluation images."""
    grids: dict[str, list[Panel]] = {}
    for domain in track(run.domains, f"Predicting up to {images} images a domain"):
        role = "unseen" if domain in run.data.unseen_names else "source"
        title = f"{domain} ({role}, protocol {run.data.protocol_titles[domain]})"
        grids[title] = predictions(run, domain, images)
    return {"grids": grids, "images": images, "palette": list(zip(CLASSES, PALETTE.tolist(), strict=True))}


def _training(run: LoadedRun) -> dict[str, Any]:
    """Draw what training left: prototypes, weights, curves and the manifest."""
    return {
        "title": run.folder.resolve().name,
        "path": str(run.folder),
        "step": run.step,
        "prototypes": _prototypes(run),
        "weights": _weights(run),
        "weight_range": WEIGHTS,
        "curves": draw_curves(run.folder) or "The logger of this run left no curves/fit/version_*/metrics.csv.",
        "protocols": run.data.protocol_titles,
        "manifest": read_manifest(run.folder) or "This run has no manifest.json.",
    }


def _prototypes(run: LoadedRun) -> list[Matrix] | str:
    if run.module.objective is None:
        return "This run was trained without PPAR: it has no prototypes."
    memory = run.module.objective.prototypes
    otp, vtp = (anchors.cpu().numpy() for anchors in (memory.otp, memory.bank))
    cosines = {
        "Cosines of OTP, of the text alone": otp @ otp.T,
        "Cosines of VTP, the bank of text refined by visual context": vtp @ vtp.T,
        "Cosine of each class's VTP and OTP": np.sum(otp * vtp, 1)[None],
    }
    return [
        Matrix(caption, CLASSES if len(values) > 1 else ["cos(VTP, OTP)"], CLASSES, values, ".2f", 1.0)
        for caption, values in cosines.items()
    ]


def _weights(run: LoadedRun) -> list[Panel] | str:
    options = run.module.options
    if run.module.objective is None:
        return "This run was trained without PPAR: every pixel weighs 1."
    if options.reweighting == "off" or options.eta == 0:
        return "This run was trained without reweighting: every pixel weighs 1."
    return weight_maps(run)
