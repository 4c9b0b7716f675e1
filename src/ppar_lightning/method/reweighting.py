"""Prototypical reweighting: each source pixel's loss is weighted by how well its feature agrees with the prototypes."""

from typing import Literal

import torch
from torch import Tensor, nn

from ppar_lightning.method.alignment import UNKNOWN
from ppar_lightning.method.grid import Grid
from ppar_lightning.method.options import Granularity

MIN_SIGMA = 0.02
"""Smallest standard deviation that margins are divided by."""


def margins(cosine: Tensor, label: Tensor) -> Tensor:
    """r_n = <z_n, A_y> - max over k != y of <z_n, A_k>.

    Args:
        cosine: (B, n, K) from :func:`~ppar_lightning.method.alignment.cosines`.
        label: (B, n) int64 train ids in [0, K).

    Returns:
        (B, n) in [-2, 2]; 0 where either side has no anchor yet.
    """
    index = label.unsqueeze(-1)
    own = cosine.gather(-1, index).squeeze(-1)
    rival = cosine.scatter(-1, index, UNKNOWN).amax(dim=-1)
    margin = own - rival
    return margin * (margin.abs() < 3)


def pool_margins(margin: Tensor, one_hot: Tensor, granularity: Granularity) -> Tensor:
    """Average margins over a region (class k in image b) or an image (mean over its regions).

    Args:
        margin: (B, n), r_n from :func:`margins`.
        one_hot: (B, n, K), a zero row for a position that does not count.
        granularity: ``pixel`` and ``off`` return the margins as they are.

    Returns:
        (B, n).
    """
    if granularity in ("pixel", "off"):
        return margin
    count = one_hot.sum(dim=1)
    region = torch.einsum("bn,bnk->bk", margin, one_hot) / count.clamp_min(1)
    if granularity == "region":
        return torch.einsum("bk,bnk->bn", region, one_hot)
    image = region.sum(dim=1) / (count > 0).sum(dim=1).clamp_min(1)
    return image.unsqueeze(1).expand_as(margin)


class MarginStatistics(nn.Module):
    """Running mean m_k and standard deviation sigma_k of the margins of each class, from sums over all ranks."""

    sums: Tensor

    def __init__(self, num_classes: int, momentum: float) -> None:
        """Start with all sums at 0.

        Args:
            num_classes: K, the number of classes.
            momentum: Momentum of the running sums, in [0, 1).
        """
        super().__init__()
        self.momentum = momentum
        self.register_buffer("sums", torch.zeros(num_classes, 3))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return m_k, (K,), 0 for a class not seen yet, and sigma_k, (K,), at least 0.02."""
        mean, second = (self.sums[:, :2] / self.sums[:, 2:].clamp_min(1e-12)).unbind(dim=1)
        return mean, (second - mean.square()).clamp_min(0).sqrt().clamp_min(MIN_SIGMA)

    def standardise(self, margin: Tensor, label: Tensor) -> Tensor:
        """u_n = clip((r_n - m_y) / sigma_y, -3, 3), (B, n); 0 for a class not seen yet."""
        mean, sigma = self.moments()
        table = torch.stack([mean, (self.sums[:, 2] > 0) / sigma], dim=1)[label]
        return ((margin - table[..., 0]) * table[..., 1]).clamp(-3, 3)

    def update(self, sums: Tensor) -> None:
        """Update the statistics of the classes in the batch.

        Args:
            sums: (K, 3), for each class the sum of r, the sum of r^2 and the count, over all ranks.
        """
        moved = self.momentum * self.sums + (1 - self.momentum) * sums
        self.sums.copy_(torch.where(sums[:, 2:] > 0, moved, self.sums))


def raw_weights(standardised: Tensor, eta: Tensor, direction: Literal["reliable", "hard"]) -> Tensor:
    """w~_n = 1 + eta tanh(u_n), or 1 - eta tanh(u_n) for the direction ``hard``."""
    return 1.0 + eta * (standardised if direction == "reliable" else -standardised).tanh()


def pixel_weights(weight: Tensor, grid: Grid, size: tuple[int, int], least: Tensor, largest: Tensor) -> Tensor:
    """Resize grid weights to the pixels of a crop, bilinearly, and clamp them to their bounds.

    Args:
        weight: (B, h*w); 1 at positions that do not count.
        grid: Cells that the weights belong to.
        size: (H, W) of the crop.
        least: (1 - eta) / (1 + eta), a scalar.
        largest: (1 + eta) / (1 - eta), a scalar.

    Returns:
        (B, H, W).
    """
    return grid.spread(weight.unflatten(1, grid.size), size).clamp(least, largest)
