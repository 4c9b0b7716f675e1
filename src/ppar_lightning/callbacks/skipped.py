"""The samples that training or ``ppar predict`` left out, listed in the run folder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from rich.console import Console

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.data.dataset import Skipped
from ppar_lightning.disk.files import write_whole

ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
"""Names that are not valid UTF-8 are written with escape codes."""


class SkippedSamples(L.Callback):
    """List each sample that was left out once in ``skipped.csv`` in the run folder, and print how many there are.

    ``stage`` is ``train`` or ``predict``. With ``data.on_bad_sample: skip`` a training writes the file even if nothing
    was left out. A run first removes the lines of its own stage, unless it continues an earlier one. All ranks append.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the lines of an earlier run, and list the files without a counterpart. A prediction uses this too."""
        (path, stage), data = place(trainer), data_of(trainer)
        if trainer.is_global_zero:
            if stage == "predict" or trainer.ckpt_path is None:
                drop(path, stage)
            if stage == "train" and data.on_bad_sample == "skip":
                append(path, stage, data.skipped())
        trainer.strategy.barrier()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """List the samples that were replaced in a batch."""
        if batch["error"]:
            append(*place(trainer), batch["error"])

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """List a picture that cannot be read, and print its name at once."""
        self.on_train_batch_end(trainer, pl_module, outputs, batch)
        for error in batch["error"]:
            Console(stderr=True).print(f"left out: {error.message}", highlight=False, markup=False, soft_wrap=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print how many samples were left out. A prediction uses this too."""
        trainer.strategy.barrier()
        path, stage = place(trainer)
        count = sum(line.startswith(f"{stage},") for line in read_lines(path)) if trainer.is_global_zero else 0
        if count:
            samples = "1 sample was" if count == 1 else f"{count} samples were"
            Console().print(f"{samples} left out in {stage}, listed in {path}", markup=False)

    on_predict_start = on_fit_start
    on_predict_end = on_fit_end


def place(trainer: L.Trainer) -> tuple[Path, str]:
    """Return the path of the run's list, and the stage that is written in the lines of this run."""
    return Path(trainer.default_root_dir) / "skipped.csv", "predict" if trainer.predicting else "train"


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list, none if there is no file; every sample is one line."""
    return path.read_text(**ENCODING).splitlines(keepends=True) if path.is_file() else []


def drop(path: Path, stage: str) -> None:
    """Remove the lines of a stage from a list, if there is one."""
    if lines := read_lines(path):
        write_whole(path, "".join(line for line in lines if not line.startswith(f"{stage},")).encode())


def append(path: Path, stage: str, skipped: Iterable[Skipped]) -> None:
    """Add the samples that are not listed yet, in one write, because other ranks append at the same time."""
    table = pd.DataFrame([(stage, *each) for each in skipped], columns=["stage", "domain", "name", "message"]).replace(
        r"\s+", " ", regex=True
    )
    lines = table.to_csv(index=False, lineterminator="\n").encode(**ENCODING).decode().splitlines(keepends=True)
    listed = read_lines(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", **ENCODING) as file:
        file.write("".join(line for line in dict.fromkeys(lines) if line not in listed))
