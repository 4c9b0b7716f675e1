"""The page of a run: one HTML file that needs nothing beside it."""

import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined
from rich.progress import track

from ppar_lightning.analysis.loaded_run import LoadedRun, load_run
from ppar_lightning.images.classes import CLASSES, PALETTE
from ppar_lightning.report.comparison import UNSEEN
from ppar_lightning.report.curves import draw_curves
from ppar_lightning.report.markdown import mean_title, number
from ppar_lightning.report.matrix import Matrix, matrix, row_shares
from ppar_lightning.report.media import log_page
from ppar_lightning.report.panels import WEIGHTS, Panel, predictions, weight_maps
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.record import Record, is_run, read_confusion, read_record


def write_page(folder: Path, output: Path | None = None, images: int = 60, project: str | None = None) -> Path:
    """Write the page of a run; a part that the run has nothing for is a sentence that says why.

    Args:
        folder: Of the run.
        output: The file; by default ``report.html`` in the folder.
        images: Evaluation images of each domain, the first of its split, among which the best and worst are looked for.
        project: Of W&B, which page, pictures and matrices are logged to as well; None logs nothing.

    Returns:
        The file.

    Raises:
        FileNotFoundError: There is no such run, it has no checkpoint, or its data is not where the config says.
        ValueError: The file would be a folder.
    """
    if not is_run(folder):
        raise FileNotFoundError(f"{folder / 'config.yaml'} not found: name the folder of one run")
    path = output or folder / "report.html"
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file that --output shall be, {path / 'report.html'} say")
    run = load_run(folder)
    run.module.to("cuda" if torch.cuda.is_available() else "cpu")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files(__package__) / "page.html.j2").read_text())
    content = _tables(run) | _pictures(run, images) | _training(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(content))
    if project is not None:
        log_page(path, content, project, folder)
    return path


def _tables(run: LoadedRun) -> dict[str, Any]:
    """Collect what ``ppar test`` left."""
    try:
        record = read_record(run.folder)
    except FileNotFoundError as error:
        return {"notes": [], "means": [], **dict.fromkeys(("domains", "heat", "confusion"), str(error))}
    means = list(dict.fromkeys(mean for score in record.scores.values() for mean in score.means))
    return {
        "notes": record.notes,
        "means": list(map(mean_title, means)),
        "domains": list(_domains(record, means)),
        "heat": _heat(record),
        "confusion": _confusion(run.folder, record),
    }


def _domains(record: Record, means: Sequence[str]) -> Iterator[tuple[str, str, str, str, list[tuple[str, float]]]]:
    """Yield domain, role, protocol, images and means of each domain, and of the unseen together."""
    for domain, score in record.scores.items():
        values = [_percent(score.means.get(mean, math.nan)) for mean in means]
        yield domain, "unseen" if score.unseen else "source", score.protocol, str(score.images), values
    unseen = [score for score in record.scores.values() if score.unseen]
    if unseen:
        values = [_percent(fmean(score.means.get(mean, math.nan) for score in unseen)) for mean in means]
        yield UNSEEN, "", ", ".join(dict.fromkeys(score.protocol for score in unseen)), "", values


def _percent(value: float) -> tuple[str, float]:
    """A share as it is read, and the length of its bar in per cent."""
    return number(100 * value), 0.0 if math.isnan(value) else round(100 * value, 1)


def _title(domain: str, record: Record) -> str:
    score = record.scores[domain]
    role = "unseen" if score.unseen else "source"
    return f"{domain} ({role}, protocol {score.protocol}, {score.images} images)"


def _heat(record: Record) -> Matrix:
    values = [[100 * iou.get(label, math.nan) for label in CLASSES] for iou in record.iou.values()]
    rows = [_title(domain, record) for domain in record.scores]
    return matrix("IoU (%) by domain and class", rows, CLASSES, values)


def _confusion(folder: Path, record: Record) -> list[Matrix] | str:
    counts = read_confusion(folder)
    if counts is None:
        return (
            f"This run was tested before confusion matrices were kept: run `ppar test --config {folder}/config.yaml`."
        )
    return [
        matrix(f"Confusion on {_title(domain, record)}", CLASSES, CLASSES, row_shares(counts[domain]))
        for domain in record.scores
        if domain in counts
    ]


def _pictures(run: LoadedRun, images: int) -> dict[str, Any]:
    """Draw what the network makes of the evaluation images."""
    grids: list[tuple[str, list[Panel]]] = []
    for domain in track(run.domains, f"Predicting up to {images} images a domain"):
        role = "unseen" if domain in run.data.unseen_names else "source"
        title = f"{domain} ({role}, protocol {run.data.protocol_titles[domain]})"
        grids.append((title, predictions(run, domain, images)))
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
    options: dict[str, Any] = {"form": ".2f", "scale": 1.0}
    return [
        matrix("Cosines of OTP, of the text alone", CLASSES, CLASSES, otp @ otp.T, **options),
        matrix("Cosines of VTP, the bank of text refined by visual context", CLASSES, CLASSES, vtp @ vtp.T, **options),
        matrix("Cosine of each class's VTP and OTP", ["cos(VTP, OTP)"], CLASSES, np.sum(otp * vtp, 1)[None], **options),
    ]


def _weights(run: LoadedRun) -> list[Panel] | str:
    options = run.module.options
    if run.module.objective is None:
        return "This run was trained without PPAR: every pixel weighs 1."
    if options.reweighting == "off" or options.eta == 0:
        return "This run was trained without reweighting: every pixel weighs 1."
    return weight_maps(run)
