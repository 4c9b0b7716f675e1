"""Scores of single images, to find the best and the worst."""

from itertools import islice
from typing import NamedTuple

from torchmetrics.functional.classification import multiclass_confusion_matrix

from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.metrics import class_iou, mean_iou


class ImageScore(NamedTuple):
    """The score of an evaluation image."""

    miou: float
    """Mean over the classes in the image or the prediction, in [0, 1]; not comparable with the mIoU of a domain."""
    place: int
    """Index of the image in the evaluation split, for :meth:`LoadedRun.read`."""


def score_images(run: LoadedRun, domain: str, images: int | None = None) -> list[ImageScore]:
    """Score the evaluation images of a domain one by one, and sort them by mIoU, the worst first.

    Images without a labelled pixel are left out.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of the domain.
        images: Number of images, from the start of the split; None takes all.
    """
    batches = run.batches(domain, images)
    pairs = (pair for batch in batches for pair in zip(batch["label"], run.predict(batch), strict=True))
    scores, number = [], len(run.data.classes)
    for index, (label, prediction) in enumerate(islice(pairs, images)):
        if not (label == IGNORE).all():
            confusion = multiclass_confusion_matrix(prediction, label, number, ignore_index=IGNORE)
            scores.append(ImageScore(float(mean_iou(class_iou(confusion), range(number))), index))
    return sorted(scores)
