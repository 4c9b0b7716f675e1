"""The results of a test: tables on the terminal and in W&B, and the same figures in the run folder."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.callbacks.scores import DomainScores, mean_over_unseen
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import differences, new_session
from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import CLASSES
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import mean_title, number
from ppar_lightning.runs.run_folder import CONFUSION
from ppar_lightning.runs.tested_run import Score, find_test

Scores = dict[str, Score]
"""Domain -> score, in the order of the test."""


class TestResults(L.Callback):
    """Print, save and log the scores of ``ppar test``, each domain by its name, and what differs from the training."""

    __test__ = False  # pytest takes a class named Test... for a test

    def __init__(self, scores: DomainScores, provenance: Provenance) -> None:
        """Take the callbacks that hold what is reported.

        Args:
            scores: The scores.
            provenance: The options that differ from the training's.
        """
        self.scores = scores
        self.provenance = provenance

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the tables of ``ppar validate``."""
        if trainer.is_global_zero and trainer.state.fn == TrainerFn.VALIDATING:
            print_tables(self.scores.scores)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``test.json``, ``test.csv`` and ``confusion.npz`` into the run folder; print and log the tables."""
        if not trainer.is_global_zero:
            return
        folder, scores = Path(trainer.default_root_dir), self.scores.scores
        selected_on = sorted({*monitored_targets(trainer), *module_of(pl_module).selected_on})
        session, data = new_session(trainer), data_of(trainer).fingerprints()
        manifest, earlier = read_manifest(folder), find_test(folder)
        checkpoint = inside(folder, trainer.ckpt_path or "")
        about = {"checkpoint": checkpoint, "target_selection": selected_on, **session, "data": data}
        write_json(folder / "test.json", scores, about)
        write_csv(folder / "test.csv", scores)
        write_confusion(folder / CONFUSION, self.scores.matrices)
        log_tables(trainer.loggers, scores)
        console = print_tables(scores)
        changes = differences(manifest, earlier.data if earlier else {}, session, data)
        for line in (*self.provenance.overrides, *changes):
            console.print(f"Differs: {line}.", highlight=False)
        if selected_on:
            console.print(
                f"Checkpoints were selected on unseen domains, by {', '.join(selected_on)}: no measure of them."
            )
        console.print(f"mIoU over classes with ground truth or predictions. Figures: {folder}/test.json, test.csv")


def inside(folder: Path, path: str | Path) -> str:
    """Return a path relative to a folder if it lies there, else as it is."""
    whole, root = Path(path).resolve(), folder.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(path)


def mean_names(scores: Scores) -> list[str]:
    """List the names of the means, which are the same for every domain."""
    return list(next(iter(scores.values())).means)


def or_none(value: float) -> float | None:
    """Replace NaN by None, as JSON and W&B take it."""
    return None if math.isnan(value) else value


def write_json(path: Path, scores: Scores, about: Mapping[str, Any]) -> None:
    """Write all figures, in [0, 1], null for a class that does not occur, and how they were obtained."""
    domains = {
        name: {
            "unseen": score.unseen,
            "images": score.images,
            "protocol": score.protocol,
            **{mean: or_none(value) for mean, value in score.means.items()},
            "iou": {label: or_none(value) for label, value in score.iou.items()},
        }
        for name, score in scores.items()
    }
    means = {f"unseen_{mean}": or_none(mean_over_unseen(scores, mean)) for mean in mean_names(scores)}
    text = json.dumps({"domains": domains, **means, **about}, indent=2, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def write_csv(path: Path, scores: Scores) -> None:
    """Write one row per domain, in [0, 1], an empty cell for a class that does not occur."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["domain", "protocol", "images", *mean_names(scores), *CLASSES])
    for name, score in scores.items():
        values = (*score.means.values(), *score.iou.values())
        writer.writerow([name, score.protocol, score.images, *("" if math.isnan(v) else f"{v:.6f}" for v in values)])
    write_whole(path, text.getvalue().encode())


def write_confusion(path: Path, matrices: Mapping[str, Tensor]) -> None:
    """Write the pixel counts of each domain under its name, (K, K) int64, row = ground truth, column = prediction."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: matrix.cpu().numpy() for name, matrix in matrices.items()}
    np.savez_compressed(content, **arrays)
    write_whole(path, content.getvalue())


def log_tables(loggers: Iterable[Logger], scores: Scores) -> None:
    """Log ``test/domains``, a row per domain, and ``test/classes``, a row per domain and class, in W&B."""
    domains = [
        [name, score.role, score.protocol, score.images, *map(or_none, score.means.values())]
        for name, score in scores.items()
    ]
    classes = [
        [name, score.protocol, label, or_none(value)]
        for name, score in scores.items()
        for label, value in score.iou.items()
    ]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table("test/domains", ["domain", "role", "protocol", "images", *mean_names(scores)], domains)
            logger.log_table("test/classes", ["domain", "protocol", "class", "iou"], classes)


def print_tables(scores: Scores) -> Console:
    """Print mIoU by domain and IoU by class, and return the console."""
    console, means = Console(), mean_names(scores)
    rows = [
        [name, score.role, score.protocol, str(score.images), *map(percent, score.means.values())]
        for name, score in scores.items()
    ]
    rows.append([UNSEEN, "", "", "", *(percent(mean_over_unseen(scores, mean)) for mean in means)])
    head = ["domain", "role", "protocol", "images", *map(mean_title, means)]
    console.print(tabulate("mIoU (%) by domain", head, rows, texts=3))
    rows = [["protocol", *(score.protocol for score in scores.values())]]
    rows += [[label, *(percent(score.iou[label]) for score in scores.values())] for label in CLASSES]
    console.print(tabulate("IoU (%) by class", ["class", *scores], rows, texts=1))
    return console


def tabulate(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> Table:
    """Lay out a table: the first ``texts`` columns are aligned to the left, the others to the right."""
    table = Table(title=title)
    for column, name in enumerate(head):
        table.add_column(name, justify="left" if column < texts else "right")
    for row in rows:
        table.add_row(*row)
    return table


def percent(share: float) -> str:
    """Format a share as a percentage with one decimal; a dash for NaN."""
    return number(100 * share)
