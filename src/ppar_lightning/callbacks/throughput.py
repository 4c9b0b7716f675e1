"""The speed of a training, in images per second."""

from time import monotonic as now
from typing import Any

import lightning as L
import torch

from ppar_lightning.data.loading import Batch
from ppar_lightning.distributed import world_size
from ppar_lightning.rates import is_logging_step


class Throughput(L.Callback):
    """Log ``train/images_per_second`` on logging steps: of all ranks together, without the time of validations.

    Lightning's ThroughputMonitor would wait for the device in each step.
    """

    _images = 0
    _since = _paused = 0.0  # times of the monotonic clock

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._images, self._since = 0, now()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, *_: Any) -> None:
        """Count the images of a batch."""
        self._images += len(batch["image"])

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Log the rate. The losses of this step were read from the device, so it has done what is counted."""
        if is_logging_step(trainer):
            rate = self._images * world_size() / (now() - self._since)
            self._images, self._since = 0, now()
            pl_module.log("train/images_per_second", torch.tensor(rate))  # on the CPU

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._paused = now()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Continue."""
        self._since += now() - self._paused
