"""Labels on the feature grid: which class a position stands for, and how purely."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.images.classes import IGNORE

MAX_IGNORED = 0.5
MIN_PURITY = 0.3


class GridLabels(NamedTuple):
    """Labels of the n = h * w positions of a feature grid."""

    label: Tensor
    """(B, n) int64: the class of the largest area in the cell; 0 where the position does not count."""
    purity: Tensor
    """(B, n) float32 in [0, 1]: that class's share of the cell."""
    counted: Tensor
    """(B, n) bool: less than half of the cell is ignored, and the purity is at least 0.3."""
    present: Tensor
    """(B, K) bool: classes with at least one labelled pixel in the image."""

    def one_hot(self, num_classes: int) -> Tensor:
        """Return (B, n, K) float32, a zero row for a position that does not count."""
        return F.one_hot(self.label, num_classes).float() * self.counted.unsqueeze(-1)


def grid_labels(label: Tensor, size: tuple[int, int], num_classes: int) -> GridLabels:
    """Average one-hot labels over the cells of a grid: q, its argmax y and its purity m = q_y.

    Args:
        label: (B, H, W) train ids, IGNORE included.
        size: (h, w) of the grid, at most (H, W).
        num_classes: K.
    """
    # One class at a time: the one-hot map of a whole crop would be the largest tensor of the step.
    shares = torch.stack([F.adaptive_avg_pool2d((label == k).float(), size) for k in (*range(num_classes), IGNORE)], -1)
    shares = shares.flatten(1, 2)
    purity, winner = shares[..., :num_classes].max(dim=-1)
    counted = (shares[..., -1] < MAX_IGNORED) & (purity >= MIN_PURITY)
    present = shares[..., :num_classes].amax(dim=1) > 0
    return GridLabels(winner * counted, purity, counted, present)
