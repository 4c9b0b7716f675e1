"""Scores by domain: one confusion matrix each, logged under the domain's name."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.metrics import class_iou, mean_iou
from ppar_lightning.runs.tested_run import Score, mean_over_unseen


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
        """Refuse what cannot be scored.

        Raises:
            ValueError: No image would be scored.
        """
        limit = {"validate": "limit_val_batches", "test": "limit_test_batches"}.get(stage, "")
        if getattr(trainer, limit, None) == 0:
            raise ValueError(f"trainer.{limit} is 0, so nothing would be scored: give 1.0 to score all images")

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the matrices; a test uses this too."""
        # Validating would sort every image, and the readers already refuse labels that are no train ids.
        mapped = getattr(pl_module, "scored_as", None) is not None  # a further column counts predictions of no class
        number, names = len(data_of(trainer).classes) + mapped, data_of(trainer).eval_splits
        options: dict[str, Any] = {"num_classes": number, "ignore_index": IGNORE, "validate_args": False}
        self._confusion = {name: MulticlassConfusionMatrix(**options).to(pl_module.device) for name in names}
        self._images = {name: torch.zeros((), dtype=torch.long, device=pl_module.device) for name in names}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the pixels of a batch."""
        domain = batch["domain"][0]
        self._confusion[domain].update(outputs, batch["label"])
        self._images[domain] += 0 if batch["padding"] else len(batch["name"])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores under ``val/``, or under ``test/`` in a test."""
        data, stage = data_of(trainer), "test" if trainer.testing else "val"
        mapped = getattr(pl_module, "scored_as", None)
        known = range(len(data.classes)) if mapped is None else mapped.tolist()
        logged: dict[str, float] = {}
        self.scores = {}
        self.matrices = {domain: confusion.compute() for domain, confusion in self._confusion.items()}
        for domain, confusion in self.matrices.items():
            iou, split = class_iou(confusion), data.eval_splits[domain]
            named = enumerate(zip(data.classes, iou.tolist(), strict=False))
            by_class = {name: value if k in known else math.nan for k, (name, value) in named}
            images = int(trainer.strategy.reduce(self._images[domain], reduce_op="sum"))
            scored = {name: sorted({*split.scored_classes} & {*ids} & {*known}) for name, ids in data.means.items()}
            means = {name: float(mean_iou(iou, ids)) for name, ids in scored.items()}
            unseen, whole = domain in data.unseen, len(split.whole)
            self.scores[domain] = Score(unseen, split.protocol, images, whole, means, by_class)
            logged |= {f"{stage}/{domain}/{name}": value for name, value in means.items()}
            logged |= {f"{stage}/{domain}/iou/{name}": value for name, value in by_class.items()}
        if any(score.unseen for score in self.scores.values()):
            logged |= {f"{stage}/unseen/{name}": mean_over_unseen(self.scores, name) for name in data.means}
        pl_module.log_dict(logged)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def on_test_batch_end(self, *given: Any) -> None:
        """Count the pixels of a batch."""
        self.on_validation_batch_end(*given)
