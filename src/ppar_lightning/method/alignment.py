"""Progressive alignment: features are aligned first with the easier anchors (VTP), then with the harder ones (OTP)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.method.options import AnchorOrder

UNKNOWN = -1e4
"""Cosine with an anchor that does not exist yet. It is so low that the anchor's share of any softmax is 0."""


Shares = tuple[float, float, float]
"""Shares of VTP, OTP and naive prototypes in the anchors; the three add up to 1."""


def anchor_shares(order: AnchorOrder, rho: float) -> Shares:
    """Return the share of each anchor set that an order uses at rho in [0, 1].

    ``vtp_to_otp`` is the progressive order and ``otp_to_vtp`` its reverse; ``joint`` uses both in equal shares; ``otp``
    and ``vtp`` use one of them (direct alignment); ``naive`` uses the class means of source features.
    """
    return {
        "vtp_to_otp": (1.0 - rho, rho, 0.0),
        "otp_to_vtp": (rho, 1.0 - rho, 0.0),
        "joint": (0.5, 0.5, 0.0),
        "otp": (0.0, 1.0, 0.0),
        "vtp": (1.0, 0.0, 0.0),
        "naive": (0.0, 0.0, 1.0),
    }[order]


def cosines(features: Tensor, anchors: Tensor) -> Tensor:
    """Compute the cosine of each feature with each anchor, in fp32.

    The products, not the features, are divided by the norm, so that the backward pass stores one copy of the features
    less.

    Args:
        features: (..., D), of any norm.
        anchors: (K, D) unit vectors; a zero row marks a class without an anchor yet, whose cosine is UNKNOWN.

    Returns:
        (..., K) in [-1, 1], or UNKNOWN.
    """
    norm = torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp_min(1e-12)
    return (features @ anchors.T / norm).masked_fill(~anchors.any(dim=-1), UNKNOWN)


def alignment_nll(cosine: Tensor, label: Tensor, tau: float) -> Tensor:
    """l_A(n) = -log softmax_k(<z_n, A_k> / tau)[y_n]; 0 where the class has no anchor yet.

    Args:
        cosine: (B, n, K) from :func:`cosines`.
        label: (B, n) int64 train ids in [0, K).
        tau: Temperature, above 0.

    Returns:
        (B, n), in nats.
    """
    loss = F.cross_entropy((cosine / tau).flatten(0, 1), label.flatten(), reduction="none").view_as(label)
    own = cosine.detach().gather(-1, label.unsqueeze(-1)).squeeze(-1)
    return torch.where(own > UNKNOWN, loss, torch.zeros_like(loss))


def class_balanced_mean(loss: Tensor, weight: Tensor, one_hot: Tensor, total: Tensor, count: Tensor) -> Tensor:
    """<l>_w: mean over classes of the weighted mean of each class.

    Args:
        loss: (B, n), l_A(n) from :func:`alignment_nll`.
        weight: (B, n), w_n m_n: the weight of a position times the share of its class in the cell.
        one_hot: (B, n, K), with a zero row for each position that does not count.
        total: (K,), the sum of w_n m_n over each class and all ranks.
        count: (K,), the number of positions of each class over all ranks; a class with fewer than 8 does not count.

    Returns:
        This rank's part of the mean, a scalar; the mean is the sum of the parts of all ranks.
    """
    part = torch.einsum("bn,bnk->k", loss * weight, one_hot)
    balanced = count >= 8
    means = torch.where(balanced, part / total.clamp_min(1e-12), torch.zeros_like(part))
    return means.sum() / balanced.sum().clamp_min(1)
