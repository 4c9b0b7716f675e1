"""Scores image by image, to find the best and the worst."""

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.images.classes import CLASSES, IGNORE
from ppar_lightning.metrics import class_iou, mean_iou


class ImageScore(NamedTuple):
    """An evaluation image and what the run made of it."""

    name: str
    miou: float
    """Over the classes that the image or the prediction shows, in [0, 1]; no comparison with a domain's mIoU."""
    image: Tensor
    """(3, H, W) uint8 RGB."""
    label: Tensor
    """(H, W) int64 train ids."""
    prediction: Tensor
    """(H, W) int64 train ids."""


def score_images(run: LoadedRun, domain: str, images: int | None = None) -> list[ImageScore]:
    """Score the evaluation images of a domain one by one, the worst first.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Its name.
        images: Read this many, the first of the split; None reads all and holds them in memory.
    """
    return sorted(each_score(run, domain, images), key=lambda score: score.miou)


def extremes(scores: Iterable[ImageScore], count: int) -> list[ImageScore]:
    """Keep the ``count`` worst and the ``count`` best, the worst first, and no more than that in memory."""
    kept: list[ImageScore] = []
    for score in scores:
        insort(kept, score, key=lambda each: each.miou)
        if len(kept) > 2 * count:
            del kept[count]
    return kept


def each_score(run: LoadedRun, domain: str, images: int | None = None) -> Iterator[ImageScore]:
    """Score as :func:`score_images` does, one after the other, in the order of the split."""
    for batch in run.batches(domain, images):
        tensors = zip(batch["name"], batch["image"], batch["label"], run.predict(batch), strict=True)
        for name, image, label, prediction in tensors:
            if (label == IGNORE).all():
                continue  # nothing to score
            confusion = multiclass_confusion_matrix(prediction, label, len(CLASSES), ignore_index=IGNORE)
            miou = float(mean_iou(class_iou(confusion), range(len(CLASSES))))
            yield ImageScore(name, miou, image.cpu(), label.cpu(), prediction.cpu())
