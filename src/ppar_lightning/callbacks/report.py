"""The report of a test: a table on the terminal, and the same figures as JSON and CSV in the run folder."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from rich.console import Console
from rich.table import Table

from ppar_lightning.callbacks.scores import DomainScore, DomainScores
from ppar_lightning.data.classes import CLASSES

UNSEEN = "unseen (mean)"


class TestReport(L.Callback):
    """Print and save the scores of ``ppar test``, each domain by its name."""

    __test__ = False  # the name is no test's

    def __init__(self, scores: DomainScores) -> None:
        """Report what another callback, which stands before this one, has scored."""
        self.scores = scores

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``test.json`` and ``test.csv`` into the run folder and print the tables."""
        if not trainer.is_global_zero:
            return
        unseen: Sequence[str] = trainer.datamodule.unseen_names  # type: ignore[attr-defined]
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        scores = self.scores.scores
        write_json(folder / "test.json", scores, unseen)
        write_csv(folder / "test.csv", scores)
        console = Console()
        console.print(domain_table(scores, unseen))
        console.print(class_table(scores))
        console.print(f"mIoU over classes with ground truth or predictions. Figures: {folder}/test.json, test.csv")


def unseen_mean(scores: dict[str, DomainScore], unseen: Sequence[str]) -> float:
    """Mean mIoU over the unseen domains, in [0, 1]; NaN without one."""
    return sum(scores[name].miou for name in unseen) / len(unseen) if unseen else math.nan


def write_json(path: Path, scores: dict[str, DomainScore], unseen: Sequence[str]) -> None:
    """Write all figures, in [0, 1], null where a class does not occur."""
    domains = {
        name: {
            "unseen": name in unseen,
            "images": score.images,
            "miou": score.miou,
            "iou": {label: None if math.isnan(value) else value for label, value in score.iou.items()},
        }
        for name, score in scores.items()
    }
    mean = unseen_mean(scores, unseen)
    record = {"domains": domains, "unseen_miou": None if math.isnan(mean) else mean}
    path.write_text(json.dumps(record, indent=2) + "\n")


def write_csv(path: Path, scores: dict[str, DomainScore]) -> None:
    """Write one row a domain, in [0, 1], an empty cell where a class does not occur."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "images", "miou", *CLASSES])
        for name, score in scores.items():
            cells = ["" if math.isnan(value) else f"{value:.6f}" for value in score.iou.values()]
            writer.writerow([name, score.images, f"{score.miou:.6f}", *cells])


def percent(value: float) -> str:
    """Format a share as per cent with one decimal; a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def domain_table(scores: dict[str, DomainScore], unseen: Sequence[str]) -> Table:
    """Tabulate domain x mIoU."""
    table = Table(title="mIoU (%) by domain")
    table.add_column("domain")
    table.add_column("role")
    table.add_column("images", justify="right")
    table.add_column("mIoU", justify="right")
    for name, score in scores.items():
        table.add_row(name, "unseen" if name in unseen else "source", str(score.images), percent(score.miou))
    table.add_section()
    table.add_row(UNSEEN, "", "", percent(unseen_mean(scores, unseen)))
    return table


def class_table(scores: dict[str, DomainScore]) -> Table:
    """Tabulate class x domain IoU."""
    table = Table(title="IoU (%) by class")
    table.add_column("class")
    for name in scores:
        table.add_column(name, justify="right")
    for label in CLASSES:
        table.add_row(label, *(percent(score.iou[label]) for score in scores.values()))
    return table
