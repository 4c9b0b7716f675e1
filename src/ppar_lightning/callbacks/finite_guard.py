"""The guard against NaN and inf: a step whose loss or gradients hold one never reaches the weights or the banks."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.data.loading import Batch
from ppar_lightning.distributed import gather
from ppar_lightning.rates import is_logging_step

STEPS = 64
"""Most optimiser steps between two looks of the host."""

Images = list[str]
"""``domain: name`` of each image of a batch."""


class Kept(NamedTuple):
    """What is kept of an optimiser step until the host looks."""

    step: int
    terms: list[tuple[str, Images]]
    """Name and batch of each loss term; with gradient accumulation, a step has several batches."""
    parameters: list[Tensor]
    """Those that have a gradient."""
    values: Tensor
    """The loss terms, then the 1-norm of each gradient, on the device."""


class Fault(NamedTuple):
    """A value that is not finite, and an image that it may come from. The first fault is the smallest."""

    step: int
    is_gradient: bool
    value: str
    image: str


class FiniteGuard(L.Callback):
    """End the run at a NaN or inf in a loss term or a gradient, with an error that names the images of the batch.

    The device decides, between the backward passes and the optimiser, and leaves weights, banks and optimiser state as
    they are from that step on. The host keeps the names of the images of the last steps. It looks on logging steps,
    every STEPS steps, before a validation or a checkpoint, and at the end; after each step with fp16
    or if the optimiser has no fused kernel. All ranks decide alike. Steps are numbered from 0, as in the curves.

    With fp16, gradients may overflow because of the loss scale. The scaler then skips the step and lowers the scale, so
    gradients are an error only if the scale is 1 or less.
    """

    def __init__(self) -> None:
        """Start before the first step."""
        self._images: Images = []
        self._seen: list[tuple[Images, dict[str, Tensor]]] = []
        self._kept: list[Kept] = []
        self._bad: Tensor | None = None
        self._due = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start, and look before each checkpoint: Lightning tells callbacks nothing of those of weights alone."""
        self._seen, self._kept, self._bad = [], [], None
        module_of(pl_module).before_saving = lambda: self._look(pl_module)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, _: int) -> None:
        """Remember the images of the batch."""
        self._images = [": ".join(pair) for pair in zip(batch["domain"], batch["name"], strict=True)]

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Remember the batch's loss terms."""
        self._seen.append((self._images, module_of(pl_module).loss_terms))

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Share 0 with the module if losses and gradients of this and all earlier steps are finite, else NaN."""
        seen, self._seen = self._seen, []
        scaler = getattr(trainer.precision_plugin, "scaler", None)  # of fp16
        checked = scaler is None or scaler.get_scale() <= 1
        parameters = [p for group in optimizer.param_groups for p in group["params"] if checked and p.grad is not None]
        terms = torch.stack([term for _, terms in seen for term in terms.values()]).float()
        # squares would overflow long before the gradients; torch has no public name for all norms in one call
        norms = torch._foreach_norm([own(p.grad) for p in parameters], 1) if parameters else [terms.new_zeros(())]
        values = torch.cat([terms, torch.stack(norms).to(terms)])
        bad = values.mul(0).sum().view(1)  # 0 times NaN or inf is NaN, which stays in every later sum
        self._bad = bad if self._bad is None else bad + self._bad
        names = [(name, images) for images, terms in seen for name in terms]
        self._kept.append(Kept(trainer.global_step, names, parameters, values))
        self._due = scaler is not None or is_logging_step(trainer) or len(self._kept) == STEPS
        module_of(pl_module).shared["bad"] = self._bad

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Look, if it is time or nothing has to be read.

        Raises:
            ValueError: A loss term or a gradient holds a NaN or inf, on any rank; also at the other looks.
        """
        if self._due or isinstance(module_of(pl_module).good, bool):
            self._look(pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look."""
        self._look(pl_module)

    on_train_end = on_validation_start

    def _look(self, pl_module: L.LightningModule) -> None:
        """Read the device if a step has been taken, and raise the first fault of all ranks."""
        kept, self._kept, self._due = self._kept, [], False
        if not kept or module_of(pl_module).good:
            return
        found: list[Fault] = [fault for part in gather([*faults(kept, pl_module)]) for fault in part]
        step, is_gradient, *_ = min(found)
        first = [fault for fault in found if fault[:2] == (step, is_gradient)]
        values, images = (dict.fromkeys(getattr(fault, name) for fault in first) for name in ("value", "image"))
        where = f"{' and '.join(values)} with the batch of {', '.join(images)}"
        raise ValueError(f"step {step}: {where}; lower the learning rate or raise --trainer.precision")


def own(gradient: Tensor) -> Tensor:
    """Return the part of a gradient that this rank holds: a shard under FSDP, else all of it."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def faults(kept: Sequence[Kept], module: L.LightningModule) -> Iterator[Fault]:
    """Name what is not finite on this rank. Any batch of a step may be the cause of a gradient."""
    names = {id(p): name for name, p in module.named_parameters()}
    for step, terms, parameters, values in kept:
        numbers = values.tolist()
        for (name, images), value in zip(terms, numbers, strict=False):
            if not math.isfinite(value):
                yield from (Fault(step, False, f"loss term {name!r} is {value}", image) for image in images)
        norms = zip(parameters, numbers[len(terms) :], strict=False)
        bad = [names[id(p)] for p, norm in norms if not math.isfinite(norm)]
        others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        for image in [image for _, images in terms for image in images] if bad else []:
            yield Fault(step, True, f"gradient of {bad[0]!r}{others} is not finite", image)
