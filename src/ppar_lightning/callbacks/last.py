"""The checkpoint that counts: ``checkpoints/last.ckpt`` in the run folder."""

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

INTERVAL = 120.0
"""Seconds of training that a stopped run loses at most, but for one step."""


def last_checkpoint(folder: str) -> str:
    """Find the checkpoint of a run folder.

    Raises:
        FileNotFoundError: The run has not written one.
    """
    path = Path(folder) / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `ppar fit` first, or give --ckpt_path")
    return str(path)


class LastCheckpoint(Checkpoint):
    """Write ``last.ckpt`` every few minutes and when training ends, each over the one before.

    Lightning's ModelCheckpoint, which keeps no other checkpoint by default, would write it at the end alone, and not
    even then if it had written another before.
    """

    def __init__(self) -> None:
        """Start without a checkpoint."""
        self._written = 0.0
        self._step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._written, self._step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write one if it is time, after a step of the optimiser, so that no accumulated gradient is lost."""
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and trainer.strategy.broadcast(time.monotonic() - self._written >= INTERVAL):
            self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the one that is tested."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt", weights_only=False)
        self._written = time.monotonic()
