"""The trial of ``ppar doctor``: a training up to the end of its first step."""

import time
from typing import Any

import lightning as L

from ppar_lightning.callbacks.last_checkpoint import lack_of_room
from ppar_lightning.callbacks.session import peak_memory


class TrialDoneError(Exception):
    """The first step has been made; the message says what it took."""


class FirstStep(L.Callback):
    """End a training after its first optimiser step, before anything else that follows it."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._step, self._started = trainer.global_step, time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """End the training.

        Raises:
            TrialDoneError: The step has been made.
            OSError: The disk lacks room for a checkpoint.
        """
        if trainer.global_step > self._step:
            seconds, memory = time.perf_counter() - self._started, peak_memory(trainer.strategy.root_device)
            took = f"the first step took {seconds:.1f} s and {memory} GiB of memory"
            if lack := lack_of_room(trainer):
                took += f"; {lack}"
            raise TrialDoneError(took)  # which is no error, but ends the training


FIRST_STEP = f"{__name__}.{FirstStep.__name__}"
"""Name of the callback in a config."""
