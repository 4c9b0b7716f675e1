"""Diagnostics that training logs: speed, learning rates, and the state of the prototypes."""

from collections.abc import Sequence
from time import monotonic as now
from typing import Any

import lightning as L
import torch
from torch import Tensor

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.data.loading import Batch
from ppar_lightning.distributed import world_size
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.reweighting import MIN_SIGMA
from ppar_lightning.rates import is_logging_step


class TrainingDiagnostics(L.Callback):
    """Log speed, learning rates and prototypes on logging steps.

    ``train/images_per_second`` counts all ranks together, without the time of validations. Lightning's
    ThroughputMonitor would wait for the device in each step.

    Two values show failures: ``prototypes/vtp_otp/mean`` near 1 (VTP collapsed onto OTP) and ``prototypes/sigma_floor``
    near 1 (the margins of most classes no longer vary).
    """

    def __init__(self) -> None:
        """Start without images."""
        self._images = 0
        self._since = self._paused = 0.0  # times of the monotonic clock

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._images, self._since = 0, now()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, *_: Any) -> None:
        """Count the images of a batch."""
        self._images += len(batch["image"])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._paused = now()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Continue."""
        self._since += now() - self._paused

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """On logging steps, log the speed, ``lr/{group}`` and, with PPAR, ``prototypes/...`` as the step uses them."""
        if not is_logging_step(trainer):
            return
        rate = self._images * world_size() / (now() - self._since)  # what is counted is done: its losses were read
        self._images, self._since = 0, now()
        pl_module.log("train/images_per_second", torch.tensor(rate))  # on the CPU
        pl_module.log_dict({f"lr/{group['name']}": group["lr"] for group in optimizer.param_groups})
        module = module_of(pl_module)
        if module.objective is not None:
            pl_module.log_dict(prototype_state(module.objective, module.segmenter.classes))


@torch.no_grad()
def prototype_state(objective: PPAR, classes: Sequence[str]) -> dict[str, Tensor]:
    """Measure the prototypes.

    Args:
        objective: The objective that holds the prototypes.
        classes: Names of the K classes.

    Returns:
        Name -> scalar: cos(Pv, T0) by class and as mean; mean and largest cosine between two classes of T0; mean cosine
        of the visual bank with T0, over the classes seen so far; share of these classes whose margin deviation is at
        its floor.
    """
    otp, bank, visual = objective.prototypes.otp, objective.prototypes.bank, objective.visual_bank.bank
    own = (bank * otp).sum(dim=1)
    pairs = (otp @ otp.T)[~torch.eye(len(otp), dtype=torch.bool, device=otp.device)]
    visited = objective.statistics.sums[:, 2] > 0
    floor = (objective.statistics.moments()[1] <= MIN_SIGMA) & visited
    return {f"prototypes/vtp_otp/{name}": value for name, value in zip(classes, own, strict=True)} | {
        "prototypes/vtp_otp/mean": own.mean(),
        "prototypes/visual_otp/mean": (visual * otp).sum(dim=1)[visited].sum() / visited.sum().clamp_min(1),
        "prototypes/otp_pairs/mean": pairs.mean(),
        "prototypes/otp_pairs/max": pairs.max(),
        "prototypes/sigma_floor": floor.sum() / visited.sum().clamp_min(1),
    }
