"""Scores of single images, to find the best and the worst."""

from typing import NamedTuple

from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.metrics import image_counts, mean_iou


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
    scores: list[tuple[float, bool]] = []
    number = len(run.data.classes)
    for batch in run.batches(domain, images):
        counts = image_counts(run.predict(batch), batch["label"], number).cpu().double()
        hit, labelled, predicted = counts.unbind(dim=-1)
        mious = mean_iou(hit / (labelled + predicted - hit), range(number)).tolist()
        scores += zip(mious, labelled.any(dim=1).tolist(), strict=True)
    return sorted(ImageScore(miou, place) for place, (miou, known) in enumerate(scores[:images]) if known)
