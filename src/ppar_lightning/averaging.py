"""The exponential moving average (EMA) of the trained weights, which is what is validated, stored and exported."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


@dataclass(frozen=True)
class EMA:
    """Options of the average.

    Attributes:
        decay: Share of the average that stays in each optimiser step, at least 0 and below 1.
        start: Number of optimiser steps until averaging begins; before, the average is the weights themselves.

    Raises:
        ValueError: A value is outside its range.
    """

    decay: float = 0.999
    start: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.start < 0:
            fault = f"model.ema has decay {self.decay} and start {self.start}"
            raise ValueError(f"{fault}; give a decay of at least 0 and below 1, and a start of at least 0")


class TrainedAverage(WeightAveraging):
    """Lightning's weight averaging, of the trained parameters alone.

    Validations use the average. Batch norm statistics, banks, counters and frozen weights are those of the trained
    network, which the average shares. ``state_dict`` of a checkpoint holds the average and all of these,
    ``current_model_state`` the trained parameters, from which a run goes on.

    Lightning's EMAWeightAveraging averages such statistics, on each rank its own, and validates the initial weights
    until its start. It also keeps the average on the CPU, and reads the device in each step.
    """

    def __init__(self, options: EMA) -> None:
        """Start without an average."""
        super().__init__(use_buffers=False)
        self.options = options
        self._pairs: tuple[list[Tensor], list[Tensor]] = ([], [])  # of averages and trained parameters

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the module for a training.

        Raises:
            ValueError: The parameters are sharded, or a callback of the trainer averages them too.
        """
        if stage == "fit" and isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError("model.ema averages no shards: give --trainer.strategy ddp, or leave model.ema out")
        callbacks = getattr(trainer, "callbacks", ())
        if stage == "fit" and any(isinstance(each, WeightAveraging) and each is not self for each in callbacks):
            raise ValueError("model.ema averages what a callback averages: leave the callback or model.ema out")
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Share with the average, which is a copy, all but the trained parameters, and move these to the device."""
        average = self._average_model
        assert average is not None
        theirs = chain(pl_module.parameters(), pl_module.buffers())
        for ours, each in zip(chain(average.module.parameters(), average.module.buffers()), theirs, strict=True):
            if each.requires_grad:
                ours.data = ours.data.to(each.device)
                self._pairs[0].append(ours)
                self._pairs[1].append(each)
            else:
                ours.data = each.data

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Move the average after an optimiser step, without a read of the device."""
        if trainer.global_step > self._latest_update_step:
            self._latest_update_step = step = trainer.global_step
            # the weights of the first step after the start are where the average begins
            move = get_ema_multi_avg_fn(self.options.decay if step > self.options.start + 1 else 0.0)
            move(*self._pairs, step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the weights as trained for the last checkpoint, from which a longer training goes on."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the module the average."""
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the average, and beside it the trained parameters alone."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        trained = {name for name, parameter in pl_module.named_parameters() if parameter.requires_grad}
        if (found := checkpoint.get("current_model_state")) is not None:
            checkpoint["current_model_state"] = {name: found[name] for name in found if name in trained}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from both; an evaluation needs the average alone, which is loaded by now."""
        if self._average_model is not None:
            found = checkpoint.get("current_model_state")
            both = {} if found is None else {"current_model_state": checkpoint["state_dict"] | found}
            super().on_load_checkpoint(trainer, pl_module, checkpoint | both)
