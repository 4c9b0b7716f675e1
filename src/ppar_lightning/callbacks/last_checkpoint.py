"""The checkpoint that counts: ``checkpoints/last.ckpt`` in the run folder."""

import os
import shutil
import signal
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins import AsyncCheckpointIO, TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.callbacks.ending import is_short
from ppar_lightning.callbacks.interruption import continuation, leave_after, listen
from ppar_lightning.runs.checkpoints import BackgroundCheckpointIO, WholeCheckpointIO, promote
from ppar_lightning.segmenter.reference import frozen

INTERVAL = 120.0
"""Shortest time between checkpoints in seconds. A SIGKILL loses at most this, plus one step or validation."""

PATIENCE = 50.0
"""Time between checkpoints, as a multiple of the time that one holds the training up, which is at most 2 % of it."""

LONGEST = 900.0
"""Longest time between checkpoints in seconds, whatever they take."""

DELAY = 4
"""Optimiser steps until several ranks act on what one asks for; the device has long summed it by then."""


class LastCheckpoint(Checkpoint):
    """Write ``last.ckpt`` at intervals, when the run is told to stop, and when training ends.

    The checkpoint before it stays as ``previous.ckpt``. SIGINT and SIGTERM stop the run after the current optimiser
    step, with a checkpoint and status 128 + signal; a second signal ends it at once. Several ranks stop together, some
    steps later.

    ``max_time`` and callbacks stop it after a whole optimiser step, too, and the checkpoint is that of this step. At
    the end of training, Lightning would count the epoch as completed.

    A file is written while training goes on, and counts once it is whole. If an error ends a training that has a
    checkpoint, the command to continue from it is added to the error.

    Lightning's ModelCheckpoint would write ``last.ckpt`` only beside another checkpoint, and Lightning itself stops in
    the middle of a gradient accumulation.
    """

    def __init__(self) -> None:
        """Start without a checkpoint."""
        self._due = 0.0  # time of the next checkpoint, on the monotonic clock
        self._step = 0
        self._stepped = False  # whether the last batch completed an optimiser step, so no gradient would be lost
        self._signal: int | None = None
        self._asked: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()  # on all ranks, in the last steps
        self._pending = False
        self._stopping = False
        self._stop_asked = False  # by max_time or a callback
        self._short = False  # whether the last checkpoint is that of a run which stops early
        self._place: dict[str, Any] = {}  # of the last checkpoint in the epochs

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the trainer write all checkpoints in the background; whole or not at all, unless by a user's plugin."""
        plugin = trainer.strategy.checkpoint_io
        kinds = {type(plugin), type(getattr(plugin, "checkpoint_io", plugin))}  # AsyncCheckpointIO does what ours does
        usual = kinds <= {TorchCheckpointIO, AsyncCheckpointIO}
        trainer.strategy.checkpoint_io = self._writer = BackgroundCheckpointIO(WholeCheckpointIO() if usual else plugin)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Handle signals instead of Lightning, which has installed its handlers just before."""
        listen(self._note)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Handle signals, start the clock, and look for room on the disk.

        Raises:
            OSError: Not even one checkpoint fits.
        """
        listen(self._note)
        self._due, self._step = time.monotonic() + INTERVAL, trainer.global_step
        self._stop_asked = self._short = False
        if lack := lack_of_room(trainer):
            rank_zero_warn(lack)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Let a new checkpoint count, as the losses up to it are logged by now, and stop if a signal came."""
        self._settle(trainer, wait=self._stopping)
        if self._stopping:
            self._stop(trainer)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Let the module sum over the ranks what each asks for."""
        if trainer.world_size > 1:
            asks = [torch.full((1,), float(each), device=pl_module.device) for each in self._asks()]
            module_of(pl_module).shared["asks"] = torch.cat(asks)  # a tensor of the host would wait for the device

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Write a checkpoint if it is due, but not just before a validation, which a resumed run would skip."""
        self._stepped, self._step = trainer.global_step > self._step, trainer.global_step
        self._delay_stop(trainer)
        loop, stops = trainer.fit_loop, self._stops(trainer)
        asks = self._agreed(trainer, pl_module) if self._stepped else [False, False]
        # No public method says whether a validation follows; it depends on steps, epochs, time and early stopping.
        if stops or not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            self._write_if_asked(trainer, *asks)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint that was postponed because of the validation."""
        self._delay_stop(trainer)
        if self._stepped and not self._short:
            reduce = trainer.strategy.reduce_boolean_decision
            self._write_if_asked(trainer, *(reduce(each, all=False) for each in self._asks()))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint that ``ppar test`` loads."""
        self._stepped = False
        self._write(trainer)
        self._settle(trainer, wait=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Wait for the checkpoint that is being written, and add the command to continue, if there is a checkpoint."""
        with suppress(OSError):  # the exception is what is shown
            trainer.strategy.checkpoint_io.teardown()
        begun = trainer.state.fn == TrainerFn.FITTING and trainer.global_step > 0  # else it is that of another run
        if begun and any(checkpoints(trainer).glob("*.ckpt")) and isinstance(exception, Exception):
            exception.add_note(f"; then {continuation(trainer.default_root_dir)}")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the place in the epoch of a run that stops early, while other callbacks go on, as the best one does."""
        if not self._short:
            self._place = {name: checkpoint[name] for name in ("epoch", "loops")}
        checkpoint |= self._place

    def _asks(self) -> list[bool]:
        return [self._signal is not None, time.monotonic() >= self._due]

    def _agreed(self, trainer: L.Trainer, pl_module: L.LightningModule) -> list[bool]:
        # what any rank asks for, without waiting for the device
        if trainer.world_size == 1:
            return self._asks()
        asks = module_of(pl_module).summed["asks"]
        copied = asks.to("cpu", non_blocking=True)  # into pinned memory
        self._asked.append((copied, torch.cuda.current_stream().record_event() if asks.is_cuda else None))
        if len(self._asked) <= DELAY:
            return [False, False]
        asks, event = self._asked.popleft()
        if event is not None:
            event.synchronize()
        return [asked > 0 for asked in asks.tolist()]

    def _write_if_asked(self, trainer: L.Trainer, signalled: bool, due: bool) -> None:
        stops = self._stops(trainer)
        if self._stepped and (stops or signalled or due):
            self._write(trainer)
            self._short, self._stopping = stops, signalled

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
        self._due = end + min(LONGEST, max(INTERVAL, PATIENCE * (end - start)))
        self._asked.clear()

    def _settle(self, trainer: L.Trainer, wait: bool) -> None:
        if self._pending and trainer.is_global_zero:
            self._writer.then(promote, checkpoints(trainer))
        self._pending = False
        self._writer.teardown(wait)

    def _note(self, number: int) -> None:
        self._signal = number

    def _stop(self, trainer: L.Trainer) -> NoReturn:
        trainer.strategy.barrier()  # launchers kill rank 0, which may still write, as soon as another rank has left
        remark = f" after step {trainer.global_step}; {continuation(trainer.default_root_dir)}"
        # another rank may have received the signal
        leave_after(self._signal or signal.SIGTERM, remark if trainer.is_global_zero else "")


def checkpoints(trainer: L.Trainer) -> Path:
    """Return the folder of the run's checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"


def lack_of_room(trainer: L.Trainer) -> str | None:
    """Return a warning if the disk lacks room for all checkpoints: two are kept while one is written, and the best.

    A checkpoint is taken to hold weights, but for a base that it refers to, buffers and as much again as is trained,
    twice with Adam and its like, and once more with an average of the weights.

    Raises:
        OSError: Not even one fits.
    """
    folder = checkpoints(trainer).resolve()
    disk = next(path for path in (folder, *folder.parents) if os.path.ismount(path))
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    averages = any(isinstance(each, WeightAveraging) for each in getattr(trainer, "callbacks", ()))
    kept = [(1 + ("betas" in group) + averages) * each.nbytes for group in groups for each in group["params"]]
    module = trainer.lightning_module
    left_out = frozen(module) if getattr(module, "base", "") else {}
    size = sum(kept) + sum(each.nbytes for name, each in module.state_dict().items() if name not in left_out)
    best = [abs(each.save_top_k) for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    free, number = shutil.disk_usage(disk).free, 3 + sum(best)
    lack = f"{disk} has {free / 1e9:.2f} GB free, and {number} checkpoints need {number * size / 1e9:.2f} GB"
    remedy = "make room there, or give a folder on another disk with --trainer.default_root_dir"
    if free < size:
        raise OSError(f"{lack}: {remedy}")
    enough = free + sum(path.stat().st_size for path in folder.glob("*.ckpt")) >= number * size
    return None if enough else f"{lack}: {remedy}"
