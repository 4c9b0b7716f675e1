"""The samples that a run left out, listed in its folder."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console

from ppar_lightning.data.dataset import Skipped
from ppar_lightning.disk.files import write_whole

HEADER = ("stage", "domain", "name", "message")


class SkippedSamples(L.Callback):
    """List each sample that was left out once in ``skipped.csv`` in the run folder, and say how many there are.

    With ``data.on_bad_sample: skip`` the file is there even if nothing was left out. Ranks append to it. A
    run drops the lines of its own stages first, unless it continues another.
    """

    def _begin(self, trainer: L.Trainer, *stages: str, continued: bool = False) -> None:
        """Start the file, with the files that have no counterpart."""
        folder = Path(trainer.default_root_dir)
        if trainer.is_global_zero and not continued:
            drop(folder, stages)
        if trainer.is_global_zero and trainer.datamodule.on_bad_sample == "skip":  # type: ignore[attr-defined]
            append(folder, stages[0], trainer.datamodule.skipped())  # type: ignore[attr-defined]
        trainer.strategy.barrier()

    def _end(self, trainer: L.Trainer, *stages: str) -> None:
        trainer.strategy.barrier()
        path = Path(trainer.default_root_dir) / "skipped.csv"
        if not trainer.is_global_zero or not path.is_file():
            return
        with path.open(newline="") as file:
            count = sum(row["stage"] in stages for row in csv.DictReader(file))
        if count:
            samples = "1 sample was" if count == 1 else f"{count} samples were"
            Console().print(f"{samples} left out in {' and '.join(stages)}, listed in {path}")

    def _note(self, trainer: L.Trainer, batch: Mapping[str, Any], stage: str) -> None:
        if batch["error"]:
            append(Path(trainer.default_root_dir), stage, batch["error"])

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the file."""
        self._begin(trainer, "train", "val", continued=trainer.ckpt_path is not None)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the file of ``validate``, or go on with that of the training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._begin(trainer, "val")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the file, or go on with that of the training."""
        self._begin(trainer, "test")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """List what was replaced in a batch."""
        self._note(trainer, batch, "train")

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """List what is missing in a batch."""
        self._note(trainer, batch, "val")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """List what is missing in a batch."""
        self._note(trainer, batch, "test")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the file, or go on with that of the training."""
        self._begin(trainer, "predict")

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """List a picture that cannot be read, and name it at once."""
        self._note(trainer, batch, "predict")
        for error in batch["error"]:
            Console(stderr=True).print(f"left out: {error.message}", highlight=False, soft_wrap=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how many samples training and validation left out."""
        self._end(trainer, "train", "val")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how many samples ``validate`` left out."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._end(trainer, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how many samples the test left out."""
        self._end(trainer, "test")

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how many pictures were left out."""
        self._end(trainer, "predict")


def drop(folder: Path, stages: Sequence[str]) -> None:
    """Take the lines of some stages out of ``skipped.csv``, if it is there."""
    path = folder / "skipped.csv"
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        write_whole(path, "".join(line for line in lines if line.partition(",")[0] not in stages).encode())


def append(folder: Path, stage: str, skipped: Iterable[Skipped]) -> None:
    """Add what is not listed yet to ``skipped.csv``, in one write of whole lines, as other ranks append too."""
    path = folder / "skipped.csv"
    listed = path.read_text() if path.is_file() else ""
    lines = [line_of((stage, *each)) for each in skipped]
    new = [line for line in dict.fromkeys(lines) if line not in listed.splitlines(keepends=True)]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, "".join(new if listed else [line_of(HEADER), *new]).encode())
    finally:
        os.close(descriptor)


def line_of(cells: Iterable[str]) -> str:
    """One line of CSV; line breaks within a cell become blanks, and bytes of a file's name that are no UTF-8 a code."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(cell.split()) for cell in cells])
    return text.getvalue().encode(errors="backslashreplace").decode()
