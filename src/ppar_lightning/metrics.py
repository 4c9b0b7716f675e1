"""Intersection over union from pixel counts, its mean over unseen domains, and intervals by bootstrap over images."""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

LEVEL = 0.95
"""Confidence of an interval."""

CHUNK = 64
"""Number of resamples whose weights are in memory at once."""

LANES = 32
"""Number of counters of each cell, for columns of pixels in turn: a GPU would wait if all added to one."""

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


def confusions(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Count the pixels of each image by one scatter, without a read of the device.

    Args:
        prediction: (B, H, W) train ids, int64; ``classes`` stands for another class.
        label: (B, H, W) train ids, int64; those from ``classes`` on are ignored.
        classes: K.

    Returns:
        (B, K + 1, K + 1) int64, row = ground truth, column = prediction. The last row is 0.
    """
    side = classes + 1
    columns = torch.arange(label.shape[-1], device=label.device) % LANES
    cells = (label.clamp(max=classes) * side + prediction + columns * side**2).flatten(1)
    counts = cells.new_zeros(len(cells), LANES * side**2)
    counts.scatter_add_(1, cells, cells.new_ones(1, 1).expand_as(cells))
    counts = counts.view(-1, LANES, side, side).sum(dim=1)
    counts[:, classes] = 0
    return counts


def image_counts(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Count the pixels of each image and class.

    Args:
        prediction: As for :func:`confusions`.
        label: As for :func:`confusions`.
        classes: K.

    Returns:
        (B, K, 3) int64: pixels where label and prediction agree, those of the label, those of the prediction.
    """
    counts = confusions(prediction, label, classes)
    hit = counts.diagonal(dim1=1, dim2=2)
    return torch.stack([hit, counts.sum(dim=2), counts.sum(dim=1)], dim=-1)[:, :classes]


def resampled_iou(counts: Tensor, resamples: int, seed: str) -> Tensor:
    """Compute the IoU of each class for resamples of the images, drawn with replacement (bootstrap).

    Args:
        counts: (N, K, 3) pixels of each image and class: those where label and prediction agree, those of the label,
            those of the prediction. Ignored pixels are left out.
        resamples: R, the number of resamples; each draws N images.
        seed: Seed of the draws; domains of different names are drawn independently of each other.

    Returns:
        (R, K) float64 in [0, 1], on the CPU; NaN for a class with neither ground truth nor predictions in a resample.
    """
    images, rng = len(counts), np.random.default_rng([*seed.encode()])
    flat, chosen = counts.cpu().double().flatten(1), np.full(images, 1 / images)
    sizes = [min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK)]
    weights = (torch.from_numpy(rng.multinomial(images, chosen, size)).double() for size in sizes)
    sums = torch.cat([each @ flat for each in weights])  # whole numbers below 2^53: exact in any order
    hit, labelled, predicted = sums.unflatten(1, counts.shape[1:]).unbind(dim=-1)
    return hit / (labelled + predicted - hit)


def interval(values: Tensor) -> tuple[float, float]:
    """Return the ends between which the share LEVEL of the values lies, (R,); NaN if one of them is NaN."""
    low, high = torch.quantile(values, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)).tolist()
    return low, high


def mean_iou(iou: Tensor, classes: Sequence[int]) -> Tensor:
    """Compute mIoU, the mean over the classes that have ground truth or predictions.

    Args:
        iou: (..., K) from :func:`class_iou` or :func:`resampled_iou`.
        classes: Train ids that the data set labels; other classes do not count.

    Returns:
        (...) in [0, 1]; NaN if no class counts.
    """
    return torch.nanmean(iou[..., list(classes)], dim=-1)


def unseen_mean(values: Mapping[str, float], unseen: Collection[str]) -> float:
    """Average over the unseen domains among ``values``; NaN if there is none, or if one of the values is NaN.

    Args:
        values: Domain -> value; it may contain other domains.
        unseen: Names of the unseen domains.
    """
    chosen = [value for domain, value in values.items() if domain in unseen]
    return fmean(chosen) if chosen else math.nan
