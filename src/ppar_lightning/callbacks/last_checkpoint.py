"""The checkpoint that counts: ``checkpoints/last.ckpt`` in the run folder."""

import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from ppar_lightning.callbacks.ending import is_short
from ppar_lightning.callbacks.interruption import continuation, leave_after, listen
from ppar_lightning.runs.checkpoints import WholeCheckpointIO, promote

INTERVAL = 120.0
"""Shortest time between checkpoints in seconds. A SIGKILL loses at most this, plus one step or validation."""

PATIENCE = 20.0
"""Shortest time between checkpoints, as a multiple of the time to write one: writing takes at most 5 % of the time."""


class LastCheckpoint(Checkpoint):
    """Write ``last.ckpt`` at intervals, when the run is told to stop, and when training ends.

    The checkpoint before it stays as ``previous.ckpt``. SIGINT and SIGTERM stop the run after the current optimiser
    step, with a checkpoint and status 128 + signal; a second signal ends it at once.

    ``max_time`` and callbacks stop it after a whole optimiser step, too, and the checkpoint is that of this step. At
    the end of training, Lightning would count the epoch as completed.

    Lightning's ModelCheckpoint would write ``last.ckpt`` only beside another checkpoint, and Lightning itself stops in
    the middle of a gradient accumulation.
    """

    def __init__(self) -> None:
        """Start without a checkpoint."""
        self._due = 0.0  # time of the next checkpoint, on the monotonic clock
        self._step = 0
        self._stepped = False  # whether the last batch completed an optimiser step, so no gradient would be lost
        self._signal: int | None = None
        self._pending = False
        self._stopping = False
        self._stop_asked = False  # by max_time or a callback
        self._short = False  # whether the last checkpoint is that of a run which stops early
        self._place: dict[str, Any] = {}  # of the last checkpoint in the epochs

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the trainer write all checkpoints whole or not at all."""
        plugin = type(trainer.strategy.checkpoint_io)
        if plugin not in (TorchCheckpointIO, WholeCheckpointIO):
            rank_zero_warn(f"the plugin {plugin.__name__} is not used: last.ckpt must be a whole local file")
        trainer.strategy.checkpoint_io = WholeCheckpointIO()

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Handle signals instead of Lightning, which has installed its handlers just before."""
        listen(self._note)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Handle signals and start the clock."""
        listen(self._note)
        self._due, self._step = time.monotonic() + INTERVAL, trainer.global_step
        self._stop_asked = self._short = False

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Promote a new checkpoint, as the losses up to it are logged by now, and stop if a signal came."""
        self._settle(trainer)
        if self._stopping:
            self._stop(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write a checkpoint if it is due, but not just before a validation, which a resumed run would skip."""
        self._stepped, self._step = trainer.global_step > self._step, trainer.global_step
        self._delay_stop(trainer)
        loop, stops = trainer.fit_loop, self._stops(trainer)
        # No public method says whether a validation follows; it depends on steps, epochs, time and early stopping.
        if stops or not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            self._write_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint that was postponed because of the validation."""
        self._delay_stop(trainer)
        if not self._short:
            self._write_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint that ``ppar test`` loads."""
        self._stepped = False
        self._write(trainer)
        self._settle(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the place in the epoch of a run that stops early, while other callbacks go on, as the best one does."""
        if not self._short:
            self._place = {name: checkpoint[name] for name in ("epoch", "loops")}
        checkpoint |= self._place

    def _write_if_due(self, trainer: L.Trainer) -> None:
        stops = self._stops(trainer)
        if self._stepped and any_rank(trainer, stops or time.monotonic() >= self._due or self._signal is not None):
            self._write(trainer)
            self._short, self._stopping = stops, any_rank(trainer, self._signal is not None)

    def _stops(self, trainer: L.Trainer) -> bool:
        # no public property says whether min_steps and min_epochs let the run stop
        return self._stepped and trainer.should_stop and trainer.fit_loop._can_stop_early and is_short(trainer)

    def _delay_stop(self, trainer: L.Trainer) -> None:
        if not trainer.sanity_checking:
            self._stop_asked |= trainer.should_stop
            trainer.should_stop = self._stop_asked and self._stepped

    def _write(self, trainer: L.Trainer) -> None:
        start = time.monotonic()
        trainer.save_checkpoint(checkpoints(trainer) / "next.ckpt", weights_only=False)
        end, self._pending = time.monotonic(), True
        self._due = end + max(INTERVAL, PATIENCE * (end - start))

    def _settle(self, trainer: L.Trainer) -> None:
        if self._pending and trainer.is_global_zero:
            promote(checkpoints(trainer))
        self._pending = False

    def _note(self, number: int) -> None:
        self._signal = number

    def _stop(self, trainer: L.Trainer) -> NoReturn:
        remark = f" after step {trainer.global_step}; {continuation(trainer.default_root_dir)}"
        # another rank may have received the signal
        leave_after(self._signal or signal.SIGTERM, remark if trainer.is_global_zero else "")


def any_rank(trainer: L.Trainer, here: bool) -> bool:
    """Return whether a condition holds on any rank; all ranks get the same answer."""
    return trainer.strategy.reduce_boolean_decision(here, all=False)


def checkpoints(trainer: L.Trainer) -> Path:
    """Return the folder of the run's checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"
