"""Scores by domain: a confusion matrix each, logged under the domain's name."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.data.classes import CLASSES, IGNORE
from ppar_lightning.metrics import class_iou, mean_iou


@dataclass(frozen=True)
class DomainScore:
    """Score of one domain."""

    miou: float
    """Mean over its classes with ground truth or predictions, in [0, 1]."""
    iou: dict[str, float]
    """By class name, in [0, 1]; NaN where the domain has neither ground truth nor predictions of it."""
    images: int


class DomainScores(L.Callback):
    """Score every evaluated domain; log ``{stage}/{domain}/miou``, ``.../iou/{class}`` and ``{stage}/unseen/miou``."""

    def __init__(self) -> None:
        """Start without scores."""
        self.scores: dict[str, DomainScore] = {}
        self._confusion: dict[str, MulticlassConfusionMatrix] = {}
        self._images: dict[str, Tensor] = {}

    def _start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        names = trainer.datamodule.evaluated_names  # type: ignore[attr-defined]
        self._confusion = {
            name: MulticlassConfusionMatrix(len(CLASSES), ignore_index=IGNORE).to(module.device) for name in names
        }
        self._images = {name: torch.zeros((), dtype=torch.long, device=module.device) for name in names}

    def _update(self, batch: dict[str, Any], prediction: Tensor) -> None:
        domain = batch["domain"][0]
        self._confusion[domain].update(prediction, batch["label"])
        self._images[domain] += sum(name != "" for name in batch["name"])  # a placeholder has no name

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        logged: dict[str, float] = {}
        self.scores = {}
        for domain, confusion in self._confusion.items():
            iou = class_iou(confusion.compute())
            by_class = dict(zip(CLASSES, iou.tolist(), strict=True))
            images = int(trainer.strategy.reduce(self._images[domain], reduce_op="sum"))
            score = DomainScore(float(mean_iou(iou, data.scored_classes[domain])), by_class, images)
            self.scores[domain] = score
            logged[f"{stage}/{domain}/miou"] = score.miou
            logged |= {f"{stage}/{domain}/iou/{name}": value for name, value in by_class.items()}
        unseen = [self.scores[name].miou for name in data.unseen_names if name in self.scores]
        if unseen:
            logged[f"{stage}/unseen/miou"] = sum(unseen) / len(unseen)
        module.log_dict(logged)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the domains' matrices anew."""
        self._start(trainer, pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the domains' matrices anew."""
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch."""
        self._update(batch, outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch."""
        self._update(batch, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores under ``val/``."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores under ``test/``."""
        self._finish(trainer, pl_module, "test")
