"""The samples that training left out, listed in the run folder, and those of a prediction."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from rich.console import Console

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.data.dataset import Skipped

ENCODING: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
"""Names that are not valid UTF-8 are written with escape codes."""


class SkippedSamples(L.Callback):
    """List each sample that training left out once in ``skipped.csv`` in the run folder; a prediction prints its own.

    With ``data.on_bad_sample: skip`` the file is written even if nothing was left out. A run that does not continue
    another one begins the list anew. All ranks append.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the list with the files without a counterpart."""
        path, data = place(trainer), data_of(trainer)
        if trainer.is_global_zero:
            if trainer.ckpt_path is None:
                path.unlink(missing_ok=True)
            if data.on_bad_sample == "skip":
                append(path, data.skipped())
        trainer.strategy.barrier()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """List the samples that were replaced in a batch."""
        if batch["error"]:
            append(place(trainer), batch["error"])

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Print the name of a picture that cannot be read."""
        for error in batch["error"]:
            Console(stderr=True).print(f"left out: {error.message}", highlight=False, markup=False, soft_wrap=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print how many samples were left out."""
        trainer.strategy.barrier()
        count = len(read_lines(place(trainer))[1:]) if trainer.is_global_zero else 0
        if count:
            samples = "1 sample was" if count == 1 else f"{count} samples were"
            Console().print(f"{samples} left out in train, listed in {place(trainer)}", markup=False)


def place(trainer: L.Trainer) -> Path:
    """Return the path of the run's list."""
    return Path(trainer.default_root_dir) / "skipped.csv"


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list, none if there is no file; every sample is one line."""
    return path.read_text(**ENCODING).splitlines(keepends=True) if path.is_file() else []


def append(path: Path, skipped: Iterable[Skipped]) -> None:
    """Add the samples that are not listed yet, in one write, because other ranks append at the same time."""
    rows = [("train", *each) for each in skipped]
    table = pd.DataFrame(rows, columns=["stage", "domain", "name", "message"]).replace(r"\s+", " ", regex=True)
    lines = table.to_csv(index=False, lineterminator="\n").encode(**ENCODING).decode().splitlines(keepends=True)
    listed = read_lines(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", **ENCODING) as file:
        file.write("".join(line for line in dict.fromkeys(lines) if line not in listed))
