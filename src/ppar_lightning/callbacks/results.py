"""The results of a test: tables on the terminal and in W&B, and the same figures in the run folder."""

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.earlier_test import keep_earlier
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import differences, new_session
from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import CLASSES
from ppar_lightning.metrics import UNSEEN
from ppar_lightning.runs.changed_options import described
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import mean_title, number
from ppar_lightning.runs.run_folder import CONFIG, CONFUSION, is_run
from ppar_lightning.runs.tested_run import Score, find_test, mean_over_unseen, part_of, sentence

Scores = Mapping[str, Score]
"""Domain -> score, in the order of the test."""
ABOUT = ["domain", "role", "protocol", "images", "images_of"]
"""Columns that come before the scores in a table of scores."""


class TestResults(L.Callback):
    """Print, save and log the scores of ``ppar test``, each domain by its name, and what differs from the training."""

    __test__ = False  # otherwise pytest would collect the class as a test

    def __init__(self, scores: DomainScores, provenance: Provenance) -> None:
        """Store the callbacks that hold the results.

        Args:
            scores: Callback with the scores and confusion matrices.
            provenance: Callback with the options that differ from those of the training.
        """
        self.scores = scores
        self.provenance = provenance

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the tables of ``ppar validate``."""
        if trainer.is_global_zero and trainer.state.fn == TrainerFn.VALIDATING:
            console = print_tables(self.scores.scores)
            for line in self.provenance.overrides:
                console.print(f"Differs: {line}.", highlight=False)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``test.json``, ``test.csv`` and ``confusion.npz`` into the run folder; print and log the tables."""
        if not trainer.is_global_zero:
            return
        folder, scores = Path(trainer.default_root_dir), self.scores.scores
        selected_on = sorted({*monitored_targets(trainer), *module_of(pl_module).selected_on})
        config = (folder / CONFIG).read_bytes() if is_run(folder) else b""
        session, data = new_session(trainer, config), data_of(trainer).fingerprints()
        manifest, earlier = read_manifest(folder), find_test(folder)
        checkpoint = inside(folder, trainer.ckpt_path or "")
        moved = [line for line in self.provenance.overrides if line.partition(":")[0].endswith(".root")]
        others = [line for line in self.provenance.overrides if line not in moved]
        about = {"checkpoint": checkpoint, "target_selection": selected_on, "changes": others, **session, "data": data}
        kept = write_figures(folder, scores, self.scores.matrices, about)
        log_tables(trainer.loggers, tabulate(scores))
        console = print_tables(scores)
        changes = differences(manifest, earlier.data if earlier else {}, session, data)
        for line in (*self.provenance.overrides, *changes):
            console.print(f"Differs: {line}.", highlight=False)
        if trained := described((manifest or {}).get("overrides", {})):
            console.print(f"Trained with {trained}.", highlight=False)
        if selected_on:
            names = ", ".join(selected_on)
            console.print(f"Checkpoints were selected on unseen domains, by {names}: scores on them are biased.")
        console.print(f"mIoU over classes with ground truth or predictions. Figures: {folder}/test.json, test.csv")
        if kept:
            console.print(f"An earlier test had other scores; it is kept as {kept.name}.", highlight=False)


def inside(folder: Path, path: str | Path) -> str:
    """Return a path relative to a folder if it lies there, else as it is."""
    whole, root = Path(path).resolve(), folder.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(path)


def tabulate(scores: Scores) -> pd.DataFrame:
    """Return one row per domain: ABOUT, the means and the IoU of each class in [0, 1], NaN if it does not occur."""
    about = [(name, each.role, each.protocol, each.images, each.images_of) for name, each in scores.items()]
    values = [score.means | score.iou for score in scores.values()]
    return pd.concat([pd.DataFrame(about, columns=ABOUT), pd.DataFrame(values)], axis=1)


def or_none(value: float) -> float | None:
    """Replace NaN by None, because JSON has no NaN."""
    return None if math.isnan(value) else value


def write_figures(
    folder: Path, scores: Scores, matrices: Mapping[str, Tensor], about: Mapping[str, Any]
) -> Path | None:
    """Write the figures of a test, in [0, 1], and keep those of an earlier one.

    ``test.json`` has null and ``test.csv`` an empty cell for a class that does not occur. ``confusion.npz`` has the
    pixel counts of each domain under its name, (K, K) int64, row = ground truth, column = prediction.

    Args:
        folder: The run folder.
        scores: Scores for ``test.json`` and ``test.csv``.
        matrices: Domain -> (K, K) pixel counts, for ``confusion.npz``.
        about: How the figures were obtained (checkpoint, session, data), for ``test.json``.

    Returns:
        What :func:`~ppar_lightning.callbacks.earlier_test.keep_earlier` returns.
    """
    domains = {
        name: {
            "unseen": score.unseen,
            "images": score.images,
            "images_of": score.images_of,
            "protocol": score.protocol,
            **{mean: or_none(value) for mean, value in score.means.items()},
            "iou": {label: or_none(value) for label, value in score.iou.items()},
        }
        for name, score in scores.items()
    }
    means = {f"unseen_{mean}": or_none(mean_over_unseen(scores, mean)) for mean in mean_names(scores)}
    kept = keep_earlier(folder, domains)
    text = json.dumps({"domains": domains, **means, **about}, indent=2, allow_nan=False)
    write_whole(folder / "test.json", f"{text}\n".encode())
    write_whole(folder / "test.csv", tabulate(scores).to_csv(index=False, float_format="%.6f").encode())
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as archive:  # savez would take a domain named "file" for its own argument
        for name, matrix in matrices.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, matrix.cpu().numpy(), allow_pickle=False)
    write_whole(folder / CONFUSION, content.getvalue())
    return kept


def mean_names(scores: Scores) -> list[str]:
    """List the names of the means, which are the same for every domain."""
    return list(next(iter(scores.values())).means)


def log_tables(loggers: Iterable[Logger], table: pd.DataFrame) -> None:
    """Log ``test/domains``, a row per domain, and ``test/classes``, a row per domain and class, in W&B."""
    parts = {
        "domains": table.drop(columns=[*CLASSES]),
        "classes": table.melt(["domain", "protocol", "images", "images_of"], CLASSES, "class", "iou"),
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for name, part in parts.items():
                logger.log_table(f"test/{name}", dataframe=part.astype(object).where(part.notna(), None))


def print_tables(scores: Scores) -> Console:
    """Print mIoU by domain and IoU by class, and return the console."""
    console, means = Console(), mean_names(scores)
    table = tabulate(scores).assign(images=[score.counted for score in scores.values()]).drop(columns="images_of")
    shown = table.map(lambda value: number(100 * value) if isinstance(value, float) else str(value))
    head = [name for name in ABOUT if name in shown]
    rows = shown[head + means].to_numpy().tolist()
    unseen = {name: score for name, score in scores.items() if score.unseen}
    if unseen:
        averages = [number(100 * mean_over_unseen(scores, mean)) for mean in means]
        rows.append([UNSEEN, "", "", "of parts" if part_of(unseen) else "", *averages])
    console.print(lay_out("mIoU (%) by domain", [*head, *map(mean_title, means)], rows, texts=3))
    by_class = shown.set_index("domain")[["protocol", *CLASSES]].T
    console.print(lay_out("IoU (%) by class", ["class", *scores], by_class.reset_index().to_numpy().tolist(), texts=1))
    for part in part_of(scores):
        console.print(sentence(f"{part}: not the scores of the protocol"), highlight=False)
    return console


def lay_out(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> Table:
    """Lay out a table: the first ``texts`` columns are aligned to the left, the others to the right."""
    columns = [Column(name, justify="left" if place < texts else "right") for place, name in enumerate(head)]
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    return table
