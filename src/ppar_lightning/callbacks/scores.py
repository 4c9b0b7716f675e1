"""Scores by domain: a confusion matrix each, logged under the domain's name."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.callbacks.access import module_of
from ppar_lightning.images.classes import CLASSES, IGNORE
from ppar_lightning.metrics import class_iou, mean_iou


@dataclass(frozen=True)
class DomainScore:
    """Score of one domain."""

    means: dict[str, float]
    """`miou`, the mean over its classes with ground truth or predictions, in [0, 1]; for SYNTHIA as a source also
    `miou_16` and `miou_13`, over those of SYNTHIA's classes."""
    iou: dict[str, float]
    """By class name, in [0, 1]; NaN where the domain has neither ground truth nor predictions of it."""
    images: int
    protocol: str

    @property
    def miou(self) -> float:
        """Mean over all classes that the domain labels."""
        return self.means["miou"]


class DomainScores(L.Callback):
    """Score every evaluated domain; log ``{stage}/{domain}/miou``, ``.../iou/{class}`` and ``{stage}/unseen/miou``."""

    def __init__(self) -> None:
        """Start without scores."""
        self.scores: dict[str, DomainScore] = {}
        self.matrices: dict[str, Tensor] = {}
        """Domain -> what ``scores`` were taken from: (K, K) int64 pixel counts, row = ground truth."""
        self._confusion: dict[str, MulticlassConfusionMatrix] = {}
        self._images: dict[str, Tensor] = {}

    def _start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        names = trainer.datamodule.eval_splits  # type: ignore[attr-defined]
        self._confusion = {
            # validation would sort every image: readers refuse labels that are no train id, and see `setup`
            name: MulticlassConfusionMatrix(len(CLASSES), ignore_index=IGNORE, validate_args=False).to(module.device)
            for name in names
        }
        self._images = {name: torch.zeros((), dtype=torch.long, device=module.device) for name in names}

    def _update(self, batch: dict[str, Any], prediction: Tensor) -> None:
        domain = batch["domain"][0]
        self._confusion[domain].update(prediction, batch["label"])
        self._images[domain] += 0 if batch["padding"] else len(batch["name"])

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        logged: dict[str, float] = {}
        self.scores = {}
        self.matrices = {domain: confusion.compute() for domain, confusion in self._confusion.items()}
        for domain, confusion in self.matrices.items():
            iou = class_iou(confusion)
            by_class = dict(zip(CLASSES, iou.tolist(), strict=True))
            images = int(trainer.strategy.reduce(self._images[domain], reduce_op="sum"))
            scored = set(data.eval_splits[domain].scored_classes)
            means = {name: float(mean_iou(iou, sorted(scored & set(ids)))) for name, ids in data.means.items()}
            self.scores[domain] = DomainScore(means, by_class, images, data.protocol_titles[domain])
            logged |= {f"{stage}/{domain}/{name}": value for name, value in means.items()}
            logged |= {f"{stage}/{domain}/iou/{name}": value for name, value in by_class.items()}
        unseen = [self.scores[name].means for name in data.unseen_names if name in self.scores]
        if unseen:
            logged |= {f"{stage}/unseen/{name}": fmean(means[name] for means in unseen) for name in data.means}
        module.log_dict(logged)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Tell the loggers the protocol of each domain.

        Raises:
            ValueError: The segmenter predicts other classes than the labels have.
        """
        classes = module_of(pl_module).segmenter.num_classes
        if classes != len(CLASSES) and stage != "predict":
            remedy = "leave model.segmenter.num_classes out"
            raise ValueError(f"a segmenter of {classes} classes, but labels have {len(CLASSES)}: {remedy}")
        for logger in trainer.loggers:
            logger.log_hyperparams({"protocol": dict(trainer.datamodule.protocol_titles)})  # type: ignore[attr-defined]

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
