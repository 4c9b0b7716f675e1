"""How well the features of source positions agree with the prototypes, and the weights that follow from it."""

from typing import NamedTuple

import torch
from torch import Tensor

from ppar_lightning.method.grid import Grid, GridLabels


class Embedded(NamedTuple):
    """Features in CLIP's joint space, with the labels of their grid."""

    features: Tensor
    """(B, n, D), fp32, of any norm: only the directions are used."""
    grid: Grid
    """Cells of the n positions."""
    labels: GridLabels
    one_hot: Tensor
    """(B, n, K)."""


class Agreement(NamedTuple):
    """How well positions agree with the prototypes, and the sums of it over this rank's batch."""

    anchors: Tensor
    """(S, K, D): the anchors of each set that the order uses."""
    cosine: Tensor
    """(B, n, S, K), see :func:`~ppar_lightning.method.alignment.cosines`."""
    margin: Tensor
    """(B, n): r_n, pooled to the granularity."""
    raw: Tensor
    """(B, n): w~_n."""
    sums: Tensor
    """(K, 5): for each class the sums of w~, w~ m, 1, r and r^2; those of the first three are needed of all ranks."""


class Weights(NamedTuple):
    """Weights of grid positions, and the class sums over all ranks that normalise the losses."""

    w: Tensor
    """(B, n); 1 at positions that do not count."""
    total: Tensor
    """(K,): sum of w_n m_n."""
    number: Tensor
    """(K,): number of positions."""
    mean: Tensor
    """(K,): mean of w~_n."""


@torch.no_grad()
def class_weights(found: Agreement, embedded: Embedded, sums: Tensor) -> Weights:
    """Return the weights w_n = w~_n / (mean of w~ over the class y_n in the global batch).

    Args:
        found: From :meth:`~ppar_lightning.method.objective.PPAR.agreement`.
        embedded: The same features.
        sums: (K, 3), the first columns of its sums, over all ranks.
    """
    total, pure, count = sums.unbind(dim=1)
    mean = torch.where(count > 0, total / count.clamp_min(1), 1)
    w = torch.where(embedded.labels.counted, found.raw / mean[embedded.labels.label], 1)
    return Weights(w, pure / mean, count, mean)
