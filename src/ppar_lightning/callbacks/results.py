"""The results of a test: tables on the terminal and in W&B, and the same figures in the run folder."""

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
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
from rich.text import Text
from torch import Tensor

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import differences, new_session
from ppar_lightning.disk.files import write_whole
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import mean_title, number
from ppar_lightning.runs.run_folder import CONFIG, CONFUSION, is_run
from ppar_lightning.runs.tested_run import Score, find_test, mean_over_unseen, part_of, read_test, score_rows, sentence

Scores = Mapping[str, Score]
"""Domain -> score, in the order of the test."""


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
            print_tables(self.scores.scores)
            parts = [sentence(f"{part}: not the scores of the protocol") for part in part_of(self.scores.scores)]
            print_lines([*parts, *(f"Differs: {line}." for line in self.provenance.overrides)])

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``test.json``, ``test.csv`` and ``confusion.npz`` into the run folder; print and log the tables."""
        if not trainer.is_global_zero:
            return
        folder, scores = Path(trainer.default_root_dir), self.scores.scores
        config = (folder / CONFIG).read_bytes() if is_run(folder) else b""
        session, data, earlier = new_session(trainer, config), data_of(trainer).fingerprints(), find_test(folder)
        about = {
            "classes": data_of(trainer).classes.entries(),
            "known": self.scores.known,
            "checkpoint": os.path.relpath(trainer.ckpt_path, folder) if trainer.ckpt_path else "",
            "target_selection": sorted({*monitored_targets(trainer), *module_of(pl_module).selected_on}),
            "changes": self.provenance.overrides,
            "model": self.provenance.model,
            "ci": self.scores.ci,
        }
        kept = write_figures(folder, scores, self.scores.matrices, {**about, **session, "data": data})
        log_tables(trainer.loggers, scores)
        print_tables(scores, self.scores.intervals)
        changes = differences(read_manifest(folder), earlier.data if earlier else {}, session, data)
        print_lines([f"Differs: {line}." for line in changes] + read_test(folder).notes)
        if getattr(trainer, "fast_dev_run", False):
            return  # a trial keeps no file
        print_lines([f"mIoU over classes with ground truth or predictions. Figures: {folder}/test.json, test.csv"])
        if kept:
            print_lines([f"An earlier test had other scores; it is kept as {kept.name}."])


def tabulate(scores: Scores) -> pd.DataFrame:
    """Return one row per domain: name, role, protocol, images, means and IoU of each class in [0, 1], NaN if absent."""
    return pd.DataFrame(
        {"domain": name, "role": each.role, "protocol": each.protocol, "images": each.images}
        | {"images_of": each.images_of, **each.columns}
        for name, each in scores.items()
    )


def write_figures(
    folder: Path, scores: Scores, matrices: Mapping[str, Tensor], about: Mapping[str, Any]
) -> Path | None:
    """Write the figures of a test, in [0, 1], and keep those of an earlier one.

    ``test.json`` has null and ``test.csv`` an empty cell for a class that does not occur. ``confusion.npz`` has the
    pixel counts of each domain under its name, row = ground truth, column = prediction: (K, K), or (K + 1, K + 1) if
    the segmenter has other classes; the last column then counts its predictions of classes that are not scored.

    Args:
        folder: The run folder.
        scores: Scores for ``test.json`` and ``test.csv``.
        matrices: Domain -> (K, K) pixel counts, for ``confusion.npz``.
        about: How the figures were obtained (checkpoint, session, data), for ``test.json``.

    Returns:
        What `keep_earlier` returns.
    """
    domains = {
        name: {key: value for key, value in (vars(each) | each.means).items() if key != "means"}
        for name, each in scores.items()
    }
    means = {f"unseen_{mean}": value for mean, value in mean_over_unseen(scores).items()}
    whole = json.dumps({"domains": domains, **means, **about})
    figures = json.loads(whole, parse_constant=lambda _: None)  # JSON has no NaN
    kept = keep_earlier(folder, figures)
    write_whole(folder / "test.json", f"{json.dumps(figures, indent=2)}\n".encode())
    write_whole(folder / "test.csv", tabulate(scores).to_csv(index=False, float_format="%.6f").encode())
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as archive:  # savez would take a domain named "file" for its own argument
        for name, matrix in matrices.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, matrix.cpu().numpy(), allow_pickle=False)
    write_whole(folder / CONFUSION, content.getvalue())
    return kept


def keep_earlier(folder: Path, figures: Mapping[str, Any]) -> Path | None:
    """Rename the files of an earlier test to ``test.{n}.json`` and so on, unless its scores and intervals are the same.

    Args:
        folder: The run folder.
        figures: Content of the present ``test.json``.

    Returns:
        The ``test.{n}.json``; None if there is nothing to keep.
    """
    path = folder / "test.json"
    if not path.is_file():
        return None
    with suppress(ValueError, LookupError, TypeError, AttributeError):  # a damaged one is not thrown away either
        earlier = json.loads(path.read_text())
        if earlier["domains"] == figures["domains"] and earlier.get("ci") in (None, figures.get("ci")):
            return None
    number = next(number for number in count(1) if not (folder / f"test.{number}.json").exists())
    for name in (CONFUSION, "test.csv", "test.json"):
        stem, suffix = name.split(".")
        if (folder / name).exists():
            (folder / name).replace(folder / f"{stem}.{number}.{suffix}")
    return folder / f"test.{number}.json"


def log_tables(loggers: Iterable[Logger], scores: Scores) -> None:
    """Log ``test/domains``, a row per domain, and ``test/classes``, a row per domain and class, in W&B."""
    table, kept = tabulate(scores), ["domain", "protocol", "images", "images_of"]
    ious = pd.DataFrame({name: each.iou for name, each in scores.items()}).rename_axis("class").reset_index()
    by_class = ious.melt("class", var_name="domain", value_name="iou").merge(table[kept], on="domain")
    means = len(next(iter(scores.values())).means)
    parts = {"domains": table.iloc[:, : 5 + means], "classes": by_class[[*kept, "class", "iou"]]}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for name, part in parts.items():
                logger.log_table(f"test/{name}", dataframe=part.astype(object).where(part.notna(), None))


def print_tables(scores: Scores, intervals: Mapping[str, Any] | None = None) -> None:
    """Print mIoU by domain, with its interval if there is one, and IoU by class."""
    first, means = next(iter(scores.values())), list(mean_over_unseen(scores))
    head = ["domain", "role", "protocol", "images", *map(mean_title, means)]
    by_class = [[name, *(number(100 * each.iou[name]) for each in scores.values())] for name in first.iou]
    by_class.insert(0, ["protocol", *(each.protocol for each in scores.values())])
    console = Console()
    console.print(lay_out("mIoU (%) by domain", head, score_rows(scores, means, intervals), texts=3))
    console.print(lay_out("IoU (%) by class", ["class", *scores], by_class, texts=1))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines without colours."""
    for line in lines:
        Console().print(line, highlight=False, markup=False)


def lay_out(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> Table:
    """Lay out a table: the first ``texts`` columns are aligned to the left, the others to the right."""
    columns = [Column(name, justify="left" if place < texts else "right") for place, name in enumerate(head)]
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*map(Text, row))  # not markup, which a name may look like
    return table
