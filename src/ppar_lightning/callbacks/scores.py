"""Scores by domain: one confusion matrix each, logged under the domain's name."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.images.classes import CLASSES, IGNORE
from ppar_lightning.metrics import class_iou, mean_iou, unseen_mean
from ppar_lightning.runs.tested_run import Score


class DomainScores(L.Callback):
    """Score every evaluated domain; log ``{stage}/{domain}/miou``, ``.../iou/{class}`` and ``{stage}/unseen/miou``.

    Attributes:
        scores: Domain -> score of the last evaluation.
        matrices: Domain -> the pixel counts behind it, (K, K) int64, row = ground truth, column = prediction.
    """

    def __init__(self) -> None:
        """Start without scores."""
        self.scores: dict[str, Score] = {}
        self.matrices: dict[str, Tensor] = {}
        self._confusion: dict[str, MulticlassConfusionMatrix] = {}
        self._images: dict[str, Tensor] = {}

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
            logger.log_hyperparams({"protocol": dict(data_of(trainer).protocol_titles)})

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the matrices."""
        self._start(trainer, pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the matrices."""
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the pixels of a batch."""
        self._update(batch, outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the pixels of a batch."""
        self._update(batch, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores under ``val/``."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores under ``test/``."""
        self._finish(trainer, pl_module, "test")

    def _start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._confusion = {
            # validation would sort every image: readers refuse labels that are no train id, and see `setup`
            name: MulticlassConfusionMatrix(len(CLASSES), ignore_index=IGNORE, validate_args=False).to(module.device)
            for name in data_of(trainer).eval_splits
        }
        self._images = {name: torch.zeros((), dtype=torch.long, device=module.device) for name in self._confusion}

    def _update(self, batch: dict[str, Any], prediction: Tensor) -> None:
        domain = batch["domain"][0]
        self._confusion[domain].update(prediction, batch["label"])
        self._images[domain] += 0 if batch["padding"] else len(batch["name"])

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        data = data_of(trainer)
        logged: dict[str, float] = {}
        self.scores = {}
        self.matrices = {domain: confusion.compute() for domain, confusion in self._confusion.items()}
        for domain, confusion in self.matrices.items():
            iou = class_iou(confusion)
            by_class = dict(zip(CLASSES, iou.tolist(), strict=True))
            images = int(trainer.strategy.reduce(self._images[domain], reduce_op="sum"))
            scored, protocol = set(data.eval_splits[domain].scored_classes), data.eval_splits[domain].protocol
            means = {name: float(mean_iou(iou, sorted(scored & set(ids)))) for name, ids in data.means.items()}
            self.scores[domain] = Score(domain in data.unseen, protocol, images, means, by_class)
            logged |= {f"{stage}/{domain}/{name}": value for name, value in means.items()}
            logged |= {f"{stage}/{domain}/iou/{name}": value for name, value in by_class.items()}
        if any(score.unseen for score in self.scores.values()):
            logged |= {f"{stage}/unseen/{name}": mean_over_unseen(self.scores, name) for name in data.means}
        module.log_dict(logged)


def mean_over_unseen(scores: dict[str, Score], mean: str) -> float:
    """Average a mean over classes over the unseen domains, in [0, 1]; NaN without an unseen domain."""
    values = {name: score.means.get(mean, math.nan) for name, score in scores.items()}
    return unseen_mean(values, [name for name, score in scores.items() if score.unseen])
