"""Progressive alignment: features are aligned first with the easier anchors (VTP), then with the harder ones (OTP)."""

import torch
from torch import Tensor

from ppar_lightning.method.options import AnchorOrder

UNKNOWN = -1e4
"""Cosine with an anchor that does not exist yet. It is so low that the anchor's share of any softmax is 0."""

LEAST = 8
"""Fewest positions with which a class counts in the mean over classes."""


def anchor_shares(order: AnchorOrder, rho: float) -> dict[str, float]:
    """Return the share of each anchor set (``vtp``, ``otp`` or ``naive``) that an order uses, at rho in [0, 1].

    ``vtp_to_otp`` is the progressive order and ``otp_to_vtp`` its reverse; ``joint`` uses both in equal shares; ``otp``
    and ``vtp`` use one of them (direct alignment); ``naive`` uses the class means of source features.
    """
    return {
        "vtp_to_otp": {"vtp": 1.0 - rho, "otp": rho},
        "otp_to_vtp": {"vtp": rho, "otp": 1.0 - rho},
        "joint": {"vtp": 0.5, "otp": 0.5},
        "otp": {"otp": 1.0},
        "vtp": {"vtp": 1.0},
        "naive": {"naive": 1.0},
    }[order]


def cosines(features: Tensor, anchors: Tensor) -> Tensor:
    """Compute the cosine of each feature with each anchor of each set, in fp32: one product for all of them.

    Args:
        features: (B, n, D), of any norm.
        anchors: (S, K, D) unit vectors; a zero row marks a class without an anchor yet, whose cosine is UNKNOWN.

    Returns:
        (B, n, S, K) in [-1, 1], or UNKNOWN.
    """
    product = (features @ anchors.flatten(0, 1).T).unflatten(-1, anchors.shape[:2])
    return (product / norm(features).unsqueeze(-1)).masked_fill(~anchors.any(dim=-1), UNKNOWN)


def norm(features: Tensor) -> Tensor:
    """Return the norm of (..., D) features, (..., 1), above 0."""
    return torch.linalg.vector_norm(features, dim=-1, keepdim=True).clamp_min(1e-12)


def mixed_cosines(cosine: Tensor, anchors: Tensor, shares: Tensor) -> Tensor:
    """Return the cosines with A = norm(sum over sets of share * anchor), a linear function of those with each set.

    Args:
        cosine: (B, n, S, K) from :func:`cosines`.
        anchors: (S, K, D), the same anchors.
        shares: (S,).

    Returns:
        (B, n, K); at most UNKNOWN where there is no anchor yet.
    """
    length = torch.linalg.vector_norm(torch.einsum("s,skd->kd", shares, anchors), dim=-1).clamp_min(1e-12)
    return torch.einsum("bnsk,s->bnk", cosine, shares) / length


def class_factors(total: Tensor, count: Tensor) -> Tensor:
    """Return 1 / (sum of the weights of the class * number of classes that count), (K,); 0 where a class does not.

    Args:
        total: (K,), the sum of w_n m_n over each class and all ranks.
        count: (K,), the number of positions of each class over all ranks; a class with fewer than LEAST is left out.
    """
    balanced = count >= LEAST
    return balanced / (total.clamp_min(1e-12) * balanced.sum().clamp_min(1))


def alignment_loss(
    features: Tensor, anchors: Tensor, cosine: Tensor, one_hot: Tensor, weight: Tensor, factor: Tensor, tau: float
) -> tuple[Tensor, Tensor]:
    """Sum over sets and positions of factor * weight * l_A(n), l_A(n) = -log softmax_k(<z_n, A_k> / tau)[y_n].

    Value and gradient are computed together: a product of softmax - one_hot with the anchors, less what points along
    the feature, as only directions count. So autograd stores nothing of the size of the features but their gradient.

    Args:
        features: (B, n, D), of any norm.
        anchors: (S, K, D) unit vectors, a zero row for a class without an anchor yet.
        cosine: (B, n, S, K) from :func:`cosines`.
        one_hot: (B, n, K), a zero row for a position that does not count.
        weight: (B, n), w_n m_n: the weight of a position times the share of its class in the cell.
        factor: (S, K): share of the set in the loss times that of the class, see :func:`class_factors`.
        tau: Temperature, above 0.

    Returns:
        The loss, a scalar in nats, and its gradient with respect to the features, (B, n, D).
    """
    used = (factor * anchors.any(dim=-1)).T
    scale = (one_hot @ used * weight.unsqueeze(-1)).unsqueeze(-1)  # (B, n, S, 1)
    own = one_hot.unsqueeze(-2)
    log_p = (cosine / tau).log_softmax(dim=-1)
    loss = -(log_p * own * scale).sum()
    slope = (log_p.exp() - own) * (scale / tau)
    along = (slope * cosine).sum(dim=(-2, -1)).unsqueeze(-1)
    length = norm(features)
    gradient = torch.addcmul(slope.flatten(-2) @ anchors.flatten(0, 1), features, along / length, value=-1) / length
    return loss, gradient
