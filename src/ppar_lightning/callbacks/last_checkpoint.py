"""The checkpoint that counts: ``checkpoints/last.ckpt`` in the run folder."""

import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from ppar_lightning.runs.checkpoints import WholeCheckpointIO, promote

INTERVAL = 120.0
"""Seconds of training that a killed run loses at most, but for a step and, where one comes between, a validation."""


class LastCheckpoint(Checkpoint):
    """Write ``last.ckpt`` every few minutes, when the run is told to stop, and when training ends.

    The one before stays as ``previous.ckpt``. SIGINT and SIGTERM stop the run after the optimiser step that they fall
    into, with status 128 + signal; a second one ends it at once, with the checkpoint that is there.

    Lightning's ModelCheckpoint, which keeps no other checkpoint by default, would write it at the end alone, and not
    even then if it had written another before. Lightning itself stops in the middle of an accumulation.
    """

    def __init__(self) -> None:
        """Start without a checkpoint."""
        self._written = 0.0
        self._step = 0
        self._stepped = False  # whether the last batch completed an optimiser step: no gradient is lost after it
        self._signal: int | None = None
        self._pending = False
        self._stopping = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Have all checkpoints of the trainer written whole or not at all."""
        trainer.strategy.checkpoint_io = WholeCheckpointIO()

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to signals, in place of Lightning, which does from just before."""
        self._listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to signals and start the clock."""
        self._listen()
        self._written, self._step = time.monotonic(), trainer.global_step

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Make the checkpoint that was written count, as the losses up to it are logged by now; stop if told to."""
        self._settle(trainer)
        if self._stopping:
            self._stop(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write one if it is time, but not before a validation, which Lightning would leave out after a restart."""
        self._stepped, self._step = trainer.global_step > self._step, trainer.global_step
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            self._write_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the one that was put off."""
        self._write_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the one that is tested."""
        self._stepped = False
        self._write(trainer)
        self._settle(trainer)

    def _write_if_due(self, trainer: L.Trainer) -> None:
        late = time.monotonic() - self._written >= INTERVAL
        if self._stepped and any_rank(trainer, late or self._signal is not None):
            self._write(trainer)
            self._stopping = any_rank(trainer, self._signal is not None)

    def _write(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(checkpoints(trainer) / "next.ckpt", weights_only=False)
        self._written, self._pending = time.monotonic(), True

    def _settle(self, trainer: L.Trainer) -> None:
        if self._pending and trainer.is_global_zero:
            promote(checkpoints(trainer))
        self._pending = False

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():  # others may not
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self._signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    def _stop(self, trainer: L.Trainer) -> NoReturn:
        number = signal.Signals(self._signal or signal.SIGTERM)  # which another rank may have got
        if trainer.is_global_zero:
            config = shlex.quote(str(Path(trainer.default_root_dir) / "config.yaml"))
            command = f"ppar fit --config {config} --ckpt_path last"
            print(f"ppar: {number.name} after step {trainer.global_step}; go on with: {command}", file=sys.stderr)
        raise SystemExit(128 + number)


def any_rank(trainer: L.Trainer, here: bool) -> bool:
    """Tell whether something holds on any rank, the same on all of them."""
    return trainer.strategy.reduce_boolean_decision(here, all=False)


def checkpoints(trainer: L.Trainer) -> Path:
    """Folder of the run's checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"
