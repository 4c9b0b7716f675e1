"""Intersection over union from a confusion matrix, counted as the field counts it."""

from collections.abc import Sequence

import torch
from torch import Tensor


def class_iou(confusion: Tensor) -> Tensor:
    """IoU of each class: TP / (TP + FP + FN).

    Args:
        confusion: (K, K) pixel counts, row = ground truth, column = prediction, ignored pixels left out.

    Returns:
        (K,) float64 in [0, 1]; NaN for a class with neither ground truth nor predictions.
    """
    counts = confusion.double()
    hit = counts.diagonal()
    return hit / (counts.sum(dim=0) + counts.sum(dim=1) - hit)


def mean_iou(iou: Tensor, classes: Sequence[int]) -> Tensor:
    """mIoU: mean over the classes that have ground truth or predictions.

    Args:
        iou: (K,) from :func:`class_iou`.
        classes: Train ids that the data set labels; the others take no part.

    Returns:
        Scalar in [0, 1]; NaN if no class counts.
    """
    return torch.nanmean(iou[list(classes)])
