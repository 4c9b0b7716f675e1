"""What a run shows of itself: a progress bar on a terminal, else lines, and the numbers of its parameters."""

import math
import sys
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic as now
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelSummary, ProgressBar, RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_summary import get_human_readable_count

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.callbacks.hyperparameters import count_parameters
from ppar_lightning.callbacks.session import hardware
from ppar_lightning.rates import is_logging_step

INTERVAL = 30.0
"""Shortest time between two lines in seconds; the first losses and the end of a domain do not wait."""


class ProgressLines(ProgressBar):
    """Print a line now and then: step, losses, images per second and time left, or the batches of a domain.

    Steps have a line only if they are logging steps, whose values Lightning holds on the CPU; no line reads the device.
    """

    _begun = _due = 0.0  # times of the monotonic clock
    _first = 0  # step of this session's start
    _logged = False  # whether the step is a logging step

    def disable(self) -> None:
        """Lightning asks for this on all ranks but the first, which alone prints."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begun, self._first = now(), trainer.global_step

    def on_before_optimizer_step(self, trainer: L.Trainer, *_: Any) -> None:
        """Note whether this is a logging step."""
        self._logged = is_logging_step(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Print a line if it is due."""
        if self._logged and now() >= self._due:
            self._print(self._line(trainer))
        self._logged = False

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        """Print how many batches are done if a line is due, and outside of a training at the end of a domain."""
        kinds = {TrainerFn.TESTING: trainer.num_test_batches, TrainerFn.PREDICTING: trainer.num_predict_batches}
        command = TrainerFn(trainer.state.fn)
        count = kinds.get(command, trainer.num_val_batches)[loader]
        end = index + 1 == count and command != TrainerFn.FITTING
        if not trainer.sanity_checking and (end or now() >= self._due):
            self._print(f"{command.value} {batch['domain'][0]}: {index + 1}/{count} batches")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the scores of a validation in a training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            known, names = trainer.callback_metrics, data_of(trainer).eval_splits
            listed = ", ".join(f"{name} {100 * float(known.get(f'val/{name}/miou', math.nan)):.1f}" for name in names)
            self._print(f"step {trainer.global_step}, validation: mIoU (%) {listed}")

    def on_test_batch_end(self, *given: Any) -> None:
        """Print the same."""
        self.on_validation_batch_end(*given)

    def on_predict_batch_end(self, *given: Any) -> None:
        """Print the same."""
        self.on_validation_batch_end(*given)

    def _line(self, trainer: L.Trainer) -> str:
        """Describe a logging step."""
        step, total, values = trainer.global_step, trainer.estimated_stepping_batches, trainer.callback_metrics
        start = "train/loss/"
        terms = [name for name in values if name.startswith(start)]
        listed = ", ".join(f"{name.removeprefix(start)} {float(values[name]):.3f}" for name in terms)
        loss, speed = trainer.progress_bar_metrics["loss"], values["train/images_per_second"]
        left = timedelta(seconds=round((now() - self._begun) / (step - self._first) * (total - step)))
        place = f"step {step}/{total}, epoch {trainer.current_epoch}"
        return f"{place}, loss {loss:.3f} ({listed}), {speed:.3g} images/s, {left} left"

    def _print(self, line: str) -> None:
        if self.trainer.is_global_zero:
            print(line, flush=True)
        self._due = now() + INTERVAL


class TerminalBar(RichProgressBar):
    """Lightning's progress bar without the number of the logger's folder or a last epoch that is not set."""

    def get_metrics(self, *given: Any) -> dict[str, Any]:
        """Return the metrics beside the bar."""
        return {name: value for name, value in super().get_metrics(*given).items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        return super()._get_train_description(current_epoch).replace("/-2", "")


class ParameterCounts(ModelSummary):
    """Print the numbers of parameters and the devices. Lightning's table has FLOPs, always 0 without an example."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        if trainer.is_global_zero:
            counts = {name: get_human_readable_count(n) for name, n in count_parameters(pl_module).items()}
            total, trainable = counts.pop("total"), counts.pop("trainable")
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            print(f"training {trainable} of {total} parameters ({listed}) on {hardware(trainer)}", flush=True)


def display(trainer: Namespace) -> Iterator[L.Callback]:
    """Yield the callbacks that show the progress and the parameters, unless the config turns them off or names others.

    Args:
        trainer: The trainer's options, with callbacks as objects.
    """
    own = trainer.callbacks if isinstance(trainer.callbacks, list) else [trainer.callbacks]
    if trainer.enable_progress_bar is not False and not any(isinstance(each, ProgressBar) for each in own):
        yield TerminalBar() if sys.stdout.isatty() else ProgressLines()
    if trainer.enable_model_summary is not False and not any(isinstance(each, ModelSummary) for each in own):
        yield ParameterCounts()
