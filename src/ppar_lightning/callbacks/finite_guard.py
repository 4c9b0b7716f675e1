"""The guard against NaN and inf: a step whose loss or gradients hold one never reaches the weights or the banks."""

import math
from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.data.loading import Batch
from ppar_lightning.distributed import all_reduce_sum, gather

Seen = tuple[Batch, dict[str, Tensor]]
"""A batch and its loss terms."""
Fault = tuple[str, Batch]
"""Name of the value that is not finite, and a batch that it comes from."""


class FiniteGuard(L.Callback):
    """End the run at a NaN or inf in a loss term or a gradient, with an error that names the images of the batch.

    The guard checks once per step, between the backward passes and the optimiser, with a single read of the device. All
    ranks decide alike. Steps are numbered from 0, as in the curves.

    With fp16, gradients may overflow because of the loss scale. The scaler then skips the step and lowers the scale, so
    gradients are an error only if the scale is 1 or less.
    """

    def __init__(self) -> None:
        """Start before the first step."""
        self._batch: Batch
        self._seen: list[Seen] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, _: int) -> None:
        """Remember the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the batch's loss terms. With gradient accumulation, a step has several batches."""
        self._seen.append((self._batch, module_of(pl_module).loss_terms))

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Check the losses and gradients of the step.

        Raises:
            ValueError: A loss term or a gradient holds a NaN or inf, on any rank.
        """
        seen, self._seen = self._seen, []
        bad_terms, bad_gradients = look(seen, optimizer)
        scaler = getattr(trainer.precision_plugin, "scaler", None)  # of fp16
        if not bad_terms and not (bad_gradients and (scaler is None or scaler.get_scale() <= 1)):
            return
        faults = bad_loss_terms(seen) if bad_terms else bad_parameters(seen, pl_module)
        named = [(fault, pair) for fault, batch in faults for pair in zip(batch["domain"], batch["name"], strict=True)]
        found = [each for part in gather(named) for each in part]
        terms, images = (dict.fromkeys(each) for each in zip(*found, strict=True))
        where = f"{' and '.join(terms)} with the batch of {', '.join(map(': '.join, images))}"
        remedy = "lower the learning rate or raise --trainer.precision"
        raise ValueError(f"step {trainer.global_step}: {where}; {remedy}")


@torch.no_grad()
def look(seen: Sequence[Seen], optimizer: torch.optim.Optimizer) -> list[bool]:
    """Return whether a loss term, and whether a gradient, holds a NaN or inf on any rank."""
    gradients = [own(p.grad) for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, norm_type=1)  # squares would overflow long before the gradients
    terms = torch.stack([term for _, terms in seen for term in terms.values()])
    bad = torch.stack([terms.isfinite().logical_not().any().to(norm.device), norm.isfinite().logical_not()])
    return all_reduce_sum(bad.float()).gt(0).tolist()


def own(gradient: Tensor) -> Tensor:
    """Return the part of a gradient that this rank holds: a shard under FSDP, else all of it."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def bad_loss_terms(seen: Sequence[Seen]) -> list[Fault]:
    """Name the loss terms of this rank that are not finite; the list is empty if only another rank has some."""
    named = [(batch, name, float(term)) for batch, terms in seen for name, term in terms.items()]
    return [(f"loss term {name!r} is {value}", batch) for batch, name, value in named if not math.isfinite(value)]


def bad_parameters(seen: Sequence[Seen], module: L.LightningModule) -> list[Fault]:
    """Name the parameters whose gradient is not finite, with every batch of the step, as each may be the cause."""
    bad = [name for name, p in module.named_parameters() if p.grad is not None and not own(p.grad).isfinite().all()]
    others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return [(f"gradient of {bad[0]!r}{others} is not finite", batch) for batch, _ in seen] if bad else []
