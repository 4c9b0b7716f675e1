"""Scores by domain: one confusion matrix each, logged under the domain's name."""

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.distributed import gather
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.metrics import LEVEL, UNSEEN, class_iou, confusions, image_counts, interval, mean_iou, resampled_iou
from ppar_lightning.runs.tested_run import Score, mean_over_unseen


class Confusion(MulticlassConfusionMatrix):
    """The confusion matrix of a domain: it reads no tensor of the device until it is computed, and sorts no image."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add the pixels of images; those labelled IGNORE are left out."""
        side = self.num_classes
        self.confmat += confusions(preds, target, min(side, IGNORE)).sum(dim=0)[:side, :side]


class DomainScores(L.Callback):
    """Score every evaluated domain; log ``{stage}/{domain}/miou``, ``.../iou/{class}`` and ``{stage}/unseen/miou``.

    Attributes:
        scores: Domain -> score of the last evaluation.
        intervals: Domain, or UNSEEN -> mean -> the ends of its interval; empty unless resamples are wanted.
        ci: The intervals as ``test.json`` has them; None without.
        known: Names of the classes that the segmenter knows, over which means are taken.
        matrices: Domain -> the pixel counts behind it, (K, K) int64, row = ground truth, column = prediction.
    """

    def __init__(self, resamples: int = 0) -> None:
        """Start without scores.

        Args:
            resamples: In a test, the number of bootstrap resamples of the images of each domain; 0 takes no intervals.
        """
        self.resamples = resamples
        self.scores: dict[str, Score] = {}
        self.intervals: dict[str, dict[str, tuple[float, float]]] = {}
        self.ci: dict[str, Any] | None = None
        self.known: list[str] = []
        self.matrices: dict[str, Tensor] = {}
        self._confusion: dict[str, Confusion] = {}
        self._names: dict[str, list[str]] = {}
        self._counts: dict[str, list[Tensor]] = {}  # of these images, on the device

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
        mapped = getattr(pl_module, "scored_as", None) is not None  # a further column counts predictions of no class
        number, names = len(data_of(trainer).classes) + mapped, data_of(trainer).eval_splits
        self._confusion = {name: Confusion(number, validate_args=False).to(pl_module.device) for name in names}
        none = torch.zeros(0, len(data_of(trainer).classes), 3, dtype=torch.long, device=pl_module.device)
        self._names, self._counts = {name: [] for name in names}, {name: [none] for name in names}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the pixels of a batch."""
        domain = batch["domain"][0]
        self._confusion[domain].update(outputs, batch["label"])
        self._names[domain] += [] if batch["padding"] else batch["name"]
        if self.resamples and trainer.testing and not batch["padding"]:
            self._counts[domain].append(image_counts(outputs, batch["label"], len(data_of(trainer).classes)))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores under ``val/``, or under ``test/`` in a test."""
        data, stage = data_of(trainer), "test" if trainer.testing else "val"
        mapped = getattr(pl_module, "scored_as", None)
        known = range(len(data.classes)) if mapped is None else mapped.tolist()
        self.known = [name for k, name in enumerate(data.classes) if k in known]
        logged: dict[str, float] = {}
        drawn: dict[str, dict[str, Tensor]] = {}
        self.scores = {}
        self.matrices = {domain: confusion.compute() for domain, confusion in self._confusion.items()}
        for domain, confusion in self.matrices.items():
            iou, split = class_iou(confusion), data.eval_splits[domain]
            named = enumerate(zip(data.classes, iou.tolist(), strict=False))
            by_class = {name: value if k in known else math.nan for k, (name, value) in named}
            names = [name for part in gather(self._names[domain]) for name in part]
            scored = {name: sorted({*split.scored_classes} & {*ids} & {*known}) for name, ids in data.means.items()}
            means = {name: float(mean_iou(iou, ids)) for name, ids in scored.items()}
            if self.resamples and trainer.testing:
                parts = [torch.from_numpy(part) for part in gather(torch.cat(self._counts[domain]).cpu().numpy())]
                counts = torch.cat(parts)[np.argsort(names)]  # the same order on any number of ranks
                resampled = resampled_iou(counts, self.resamples, domain)
                drawn[domain] = {name: mean_iou(resampled, ids) for name, ids in scored.items()}
            unseen, whole = domain in data.unseen, len(split.whole)
            self.scores[domain] = Score(unseen, split.protocol, len(names), whole, means, by_class)
            logged |= {f"{stage}/{domain}/{name}": value for name, value in means.items()}
            logged |= {f"{stage}/{domain}/iou/{name}": value for name, value in by_class.items()}
        if any(score.unseen for score in self.scores.values()):
            logged |= {f"{stage}/unseen/{name}": value for name, value in mean_over_unseen(self.scores).items()}
        pl_module.log_dict(logged)
        if targets := [own for domain, own in drawn.items() if domain in data.unseen]:
            drawn[UNSEEN] = {name: torch.stack([own[name] for own in targets]).mean(dim=0) for name in data.means}
        self.intervals = {name: {mean: interval(each) for mean, each in own.items()} for name, own in drawn.items()}
        self.ci = {"resamples": self.resamples, "level": LEVEL, "intervals": self.intervals} if drawn else None

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def on_test_batch_end(self, *given: Any) -> None:
        """Count the pixels of a batch."""
        self.on_validation_batch_end(*given)
