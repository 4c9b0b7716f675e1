"""The progress of a run as lines, for a log that is no terminal."""

import math
from datetime import timedelta
from time import monotonic as now
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.trainer.states import TrainerFn

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.callbacks.throughput import Throughput
from ppar_lightning.module import is_logging_step

INTERVAL = 30.0
"""Shortest time between two lines in seconds; the first losses, the last step and the end of a domain do not wait."""


class ProgressLines(ProgressBar):
    """Print a line now and then: step, losses, images per second and time left, or the images of a domain.

    The losses are those of the last logging step, which Lightning holds on the CPU, so no line reads the device.
    """

    def __init__(self, throughput: Throughput) -> None:
        """Store where the speed comes from.

        Args:
            throughput: Callback with the images per second.
        """
        super().__init__()
        self.throughput = throughput
        self._enabled = True
        self._begun = self._due = now()  # times of the monotonic clock
        self._first = self._said = self._logged = -1  # steps: of this session's start, the last line, the last losses
        self._losses = ""
        self._done: dict[str, int] = {}

    def disable(self) -> None:
        """Print no lines; Lightning asks for this on ranks other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print lines again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begun, self._first = now(), trainer.global_step
        self._due = self._begun + INTERVAL

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the number of a logging step."""
        if is_logging_step(trainer):
            self._logged = trainer.global_step + 1

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Print a line if it is due, and as soon as there are losses."""
        first = not self._losses
        if trainer.global_step == self._logged:
            self._losses = losses(trainer)
        if now() >= self._due or (first and self._losses):
            self._print_step(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last line."""
        self._print_step(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from zero."""
        self._done = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Print how many images are done if a line is due, and outside of a training at the end of a domain."""
        if trainer.sanity_checking:
            return
        data, command = data_of(trainer), str(trainer.state.fn and trainer.state.fn.value)
        name = batch["domain"][0] if command != "predict" else "pictures"
        images = len(data.eval_splits[name] if command != "predict" else data.pictures)
        before = self._done.get(name, 0)
        self._done[name] = done = min(images, before + len(batch["name"]) * trainer.world_size)
        if now() >= self._due or (before < done == images and command != "fit"):
            self._print(f"{command} {name}: {done}/{images} images")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the scores of a validation in a training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            scores = {name: float(trainer.callback_metrics.get(f"val/{name}/miou", math.nan)) for name in self._done}
            listed = ", ".join(f"{name} {100 * score:.1f}" for name, score in scores.items())
            self._print(f"step {trainer.global_step}, validation: mIoU (%) {listed}")

    on_test_start = on_predict_start = on_validation_start

    def on_test_batch_end(self, *given: Any) -> None:
        """Print the same."""
        self.on_validation_batch_end(*given)

    def on_predict_batch_end(self, *given: Any) -> None:
        """Print the same."""
        self.on_validation_batch_end(*given)

    def _print_step(self, trainer: L.Trainer) -> None:
        step, total = trainer.global_step, trainer.estimated_stepping_batches
        if step in (self._first, self._said):  # no step since
            return
        timers = (each.time_remaining() for each in getattr(trainer, "callbacks", ()) if isinstance(each, Timer))
        left = (now() - self._begun) / (step - self._first) * (total - step)
        left = min([left, *(seconds for seconds in timers if seconds is not None)])
        parts = [f"step {step}" + f"/{total}" * math.isfinite(total), f"epoch {trainer.current_epoch}"]
        if self._losses:
            parts += [self._losses if step == self._logged else f"{self._losses} at step {self._logged}"]
            parts += [f"{self.throughput.rate:.3g} images/s"]
        parts += [f"{timedelta(seconds=round(left))} left"] * (0 < left < math.inf)
        self._said = step
        self._print(", ".join(parts))

    def _print(self, line: str) -> None:
        if self._enabled:
            print(line, flush=True)
        self._due = now() + INTERVAL


def losses(trainer: L.Trainer) -> str:
    """Describe the loss and its terms of the last logging step."""
    start = "train/loss/"
    terms = {
        name.removeprefix(start): each for name, each in trainer.callback_metrics.items() if name.startswith(start)
    }
    listed = ", ".join(f"{name} {float(value):.3f}" for name, value in terms.items())
    return f"loss {trainer.progress_bar_metrics['loss']:.3f} ({listed})"
