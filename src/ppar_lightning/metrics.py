"""Intersection over union from a confusion matrix, and its mean over unseen domains."""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

UNSEEN = "unseen (mean)"
"""Label of the mean over unseen domains in tables and logs."""


def class_iou(confusion: Tensor) -> Tensor:
    """Compute the IoU of each class, TP / (TP + FP + FN).

    Args:
        confusion: (K, K) pixel counts, row = ground truth, column = prediction, ignored pixels left out.

    Returns:
        (K,) float64 in [0, 1], on the CPU; NaN for a class with neither ground truth nor predictions.
    """
    counts = confusion.cpu().double()  # Apple's MPS has no float64
    hit = counts.diagonal()
    return hit / (counts.sum(dim=0) + counts.sum(dim=1) - hit)


def mean_iou(iou: Tensor, classes: Sequence[int]) -> Tensor:
    """Compute mIoU, the mean over the classes that have ground truth or predictions.

    Args:
        iou: (K,) from :func:`class_iou`.
        classes: Train ids that the data set labels; other classes do not count.

    Returns:
        Scalar in [0, 1]; NaN if no class counts.
    """
    return torch.nanmean(iou[list(classes)])


def unseen_mean(values: Mapping[str, float], unseen: Collection[str]) -> float:
    """Average over the unseen domains among ``values``; NaN if there is none, or if one of the values is NaN.

    Args:
        values: Domain -> value; it may contain other domains.
        unseen: Names of the unseen domains.
    """
    chosen = [value for domain, value in values.items() if domain in unseen]
    return fmean(chosen) if chosen else math.nan
