"""Scores of single images, to find the best and the worst."""

from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.metrics import class_iou, mean_iou


class ImageScore(NamedTuple):
    """An evaluation image with its prediction and score."""

    name: str
    miou: float
    """Mean over the classes in the image or the prediction, in [0, 1]; not comparable with the mIoU of a domain."""
    image: Tensor
    """(3, H, W) uint8 RGB."""
    label: Tensor
    """(H, W) int64 train ids."""
    prediction: Tensor
    """(H, W) int64 train ids."""


def score_images(run: LoadedRun, domain: str, images: int | None = None) -> list[ImageScore]:
    """Score the evaluation images of a domain one by one, and sort them by mIoU, the worst first.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of the domain.
        images: Number of images, from the start of the split; None takes all. All of them are held in memory.
    """
    return sorted(each_score(run, domain, images), key=lambda score: score.miou)


def extremes(scores: Iterable[ImageScore], count: int) -> tuple[list[ImageScore], int]:
    """Keep the ``count`` worst and the ``count`` best images, the worst first, without holding the others in memory.

    Returns:
        The images kept, and the number of images seen.
    """
    kept: list[ImageScore] = []
    seen = 0
    for score in scores:
        seen += 1
        insort(kept, score, key=lambda each: each.miou)
        if len(kept) > 2 * count:
            del kept[count]
    return kept, seen


def each_score(run: LoadedRun, domain: str, images: int | None = None) -> Iterator[ImageScore]:
    """Yield the scores of :func:`score_images` one image at a time, in the order of the split.

    Images without a labelled pixel are left out.
    """
    samples = (
        sample
        for batch in run.batches(domain, images)
        for sample in zip(batch["name"], batch["image"], batch["label"], run.predict(batch), strict=True)
    )
    for name, image, label, prediction in islice(samples, images):
        if not (label == IGNORE).all():
            number = len(run.data.classes)
            confusion = multiclass_confusion_matrix(prediction, label, number, ignore_index=IGNORE)
            miou = float(mean_iou(class_iou(confusion), range(number)))
            yield ImageScore(name, miou, image.cpu(), label.cpu(), prediction.cpu())
