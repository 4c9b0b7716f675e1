"""Joint space on paper: the plane in which the anchors spread most."""

import torch
from torch import Tensor


def principal_plane(points: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the plane of a principal component analysis.

    The plane of the text prototypes stays the same over training, so that pictures of several checkpoints compare.

    Args:
        points: (N, D), N > 2.

    Returns:
        Mean (D,) and axes (2, D), orthonormal, the larger spread first; ``(x - mean) @ axes.T`` is a point's place.
    """
    mean = points.mean(dim=0)
    axes = torch.linalg.svd(points - mean, full_matrices=False).Vh[:2]
    return mean, axes
