"""The report of a test: a table on the terminal, and the same figures as JSON and CSV in the run folder."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ppar_lightning.callbacks.differences import differences
from ppar_lightning.callbacks.provenance import new_session
from ppar_lightning.callbacks.record import RunRecord
from ppar_lightning.callbacks.scores import DomainScore, DomainScores
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.tables import log_tables
from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import CLASSES
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.run_folder import CONFUSION
from ppar_lightning.runs.tested_run import find_test

UNSEEN = "unseen (mean)"


class TestReport(L.Callback):
    """Print and save the scores of ``ppar test``, each domain by its name."""

    __test__ = False  # the name is no test's

    def __init__(self, scores: DomainScores) -> None:
        """Report what another callback, which stands before this one, has scored."""
        self.scores = scores

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the tables of ``ppar validate``."""
        if trainer.is_global_zero and trainer.state.fn == TrainerFn.VALIDATING:
            print_tables(self.scores.scores, trainer.datamodule.unseen_names)  # type: ignore[attr-defined]

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``test.json``, ``test.csv`` and ``confusion.npz`` into the run folder; print and log the tables."""
        if not trainer.is_global_zero:
            return
        unseen: Sequence[str] = trainer.datamodule.unseen_names  # type: ignore[attr-defined]
        folder = Path(trainer.default_root_dir)
        scores = self.scores.scores
        selected_on = sorted({*monitored_targets(trainer), *getattr(pl_module, "selected_on", [])})
        session, data = new_session(trainer), trainer.datamodule.fingerprints()  # type: ignore[attr-defined]
        about = {"checkpoint": inside(folder, trainer.ckpt_path or ""), "target_selection": selected_on, **session}
        manifest, earlier = read_manifest(folder), find_test(folder)
        before = None if earlier is None else {"data": earlier.data}
        write_json(folder / "test.json", scores, unseen, {**about, "data": data})
        write_csv(folder / "test.csv", scores)
        write_confusion(folder / CONFUSION, self.scores.matrices)
        log_tables(trainer.loggers, scores, unseen)
        console = print_tables(scores, unseen)
        records = [callback for callback in trainer.callbacks if isinstance(callback, RunRecord)]  # type: ignore[attr-defined]
        overrides = [line for record in records for line in record.overrides]
        for line in (*overrides, *differences(manifest, before, session, data)):
            console.print(f"Differs: {line}.", highlight=False)
        if selected_on:
            console.print(
                f"Checkpoints were selected on unseen domains, by {', '.join(selected_on)}: no measure of them."
            )
        console.print(f"mIoU over classes with ground truth or predictions. Figures: {folder}/test.json, test.csv")


def inside(folder: Path, path: str | Path) -> str:
    """Name a file as seen from a folder, if it lies there."""
    whole, root = Path(path).resolve(), folder.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(path)


def print_tables(scores: dict[str, DomainScore], unseen: Sequence[str]) -> Console:
    """Print mIoU by domain and IoU by class, and return where."""
    console = Console()
    console.print(domain_table(scores, unseen))
    console.print(class_table(scores))
    return console


def unseen_mean(scores: dict[str, DomainScore], unseen: Sequence[str], mean: str = "miou") -> float:
    """Mean of a domain mean over the unseen domains, in [0, 1]; NaN without one."""
    return fmean(scores[name].means[mean] for name in unseen) if unseen else math.nan


def write_json(path: Path, scores: dict[str, DomainScore], unseen: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write all figures, in [0, 1], null where a class does not occur; and what they were got by."""
    domains = {
        name: {
            "unseen": name in unseen,
            "images": score.images,
            "protocol": score.protocol,
            **{mean: or_none(value) for mean, value in score.means.items()},
            "iou": {label: or_none(value) for label, value in score.iou.items()},
        }
        for name, score in scores.items()
    }
    means = {f"unseen_{mean}": or_none(unseen_mean(scores, unseen, mean)) for mean in mean_names(scores)}
    record = {"domains": domains, **means, **about}
    write_whole(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())


def write_csv(path: Path, scores: dict[str, DomainScore]) -> None:
    """Write one row a domain, in [0, 1], an empty cell where a class does not occur."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["domain", "protocol", "images", *mean_names(scores), *CLASSES])
    for name, score in scores.items():
        values = (*score.means.values(), *score.iou.values())
        writer.writerow([name, score.protocol, score.images, *("" if math.isnan(v) else f"{v:.6f}" for v in values)])
    write_whole(path, text.getvalue().encode())


def write_confusion(path: Path, matrices: Mapping[str, Tensor]) -> None:
    """Write a (K, K) int64 array a domain under its name: pixel counts, row = ground truth, column = prediction."""
    content = io.BytesIO()
    np.savez_compressed(content, **{name: matrix.cpu().numpy() for name, matrix in matrices.items()})  # type: ignore[arg-type]
    write_whole(path, content.getvalue())


def or_none(value: float) -> float | None:
    """Give a value as JSON takes it, None for NaN."""
    return None if math.isnan(value) else value


def percent(value: float) -> str:
    """Format a share as per cent with one decimal; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def domain_table(scores: dict[str, DomainScore], unseen: Sequence[str]) -> Table:
    """Tabulate domain x mIoU."""
    table = Table(title="mIoU (%) by domain")
    table.add_column("domain")
    table.add_column("role")
    table.add_column("protocol")
    table.add_column("images", justify="right")
    for mean in mean_names(scores):
        table.add_column(mean.replace("miou", "mIoU").replace("_", " "), justify="right")
    for name, score in scores.items():
        role = "unseen" if name in unseen else "source"
        table.add_row(name, role, score.protocol, str(score.images), *map(percent, score.means.values()))
    table.add_section()
    table.add_row(UNSEEN, "", "", "", *(percent(unseen_mean(scores, unseen, mean)) for mean in mean_names(scores)))
    return table


def mean_names(scores: dict[str, DomainScore]) -> list[str]:
    """Names of the means, the same for every domain."""
    return list(next(iter(scores.values())).means)


def class_table(scores: dict[str, DomainScore]) -> Table:
    """Tabulate class x domain IoU."""
    table = Table(title="IoU (%) by class")
    table.add_column("class")
    for name in scores:
        table.add_column(name, justify="right")
    table.add_row("protocol", *(score.protocol for score in scores.values()))
    table.add_section()
    for label in CLASSES:
        table.add_row(label, *(percent(score.iou[label]) for score in scores.values()))
    return table
