"""Distances of features to the anchor of their class, and between two domains."""

import math

import torch
from torch import Tensor

from ppar_lightning.analysis.features import Features


def anchor_distance(features: Features, anchors: Tensor) -> Tensor:
    """Compute E||z - A_y|| for each class.

    Args:
        features: Features of a domain.
        anchors: (K, D) unit vectors.

    Returns:
        (K,) in [0, 2], 0 where z lies on its anchor, sqrt(2) at a right angle; NaN for a class without positions.
    """
    distance = torch.linalg.vector_norm(features.z - anchors[features.label], dim=-1)
    total = torch.zeros(len(anchors)).index_add(0, features.label, distance)
    return total / torch.bincount(features.label, minlength=len(anchors))


def domain_distance(source: Features, target: Features, anchors: Tensor) -> float:
    """Compute the squared Fréchet distance between the residuals z - A_y of two domains.

    Each class counts with the same number of positions on both sides, so that class frequencies do not matter.

    Args:
        source: Features of one domain.
        target: Features of the other domain.
        anchors: (K, D) unit vectors.

    Returns:
        At least 0; NaN if the two share no class.
    """
    by_class = [[side.z[side.label == k] - anchor for side in (source, target)] for k, anchor in enumerate(anchors)]
    paired = [[residuals[: min(map(len, pair))] for residuals in pair] for pair in by_class]
    one, other = (torch.cat(residuals) for residuals in zip(*paired, strict=True))
    return frechet(one, other) if len(one) else math.nan


def frechet(one: Tensor, other: Tensor) -> float:
    """Compute the squared Fréchet distance between Gaussians with the moments of two samples (FID, Heusel et al. 2017).

    It is ||m_1 - m_2||^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)). The trace of (C_1 C_2)^(1/2) equals that of
    (R C_2 R)^(1/2) with R = C_1^(1/2).

    Args:
        one: (N, D).
        other: (M, D).

    Returns:
        At least 0; NaN if features are not finite, or so large that their moments have no eigenvalues.
    """
    a, b = one.double(), other.double()
    first, second = (torch.cov(each.T, correction=0).reshape(each.shape[1], -1) for each in (a, b))
    try:
        values, vectors = torch.linalg.eigh(first)
        root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    except torch.linalg.LinAlgError:  # training has diverged, and FiniteGuard ends it at the next step
        return math.nan
    squared = float((a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)
    return max(0.0, squared) if math.isfinite(squared) else math.nan
