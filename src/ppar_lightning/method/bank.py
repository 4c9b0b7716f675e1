"""The visual class bank M: class means of source features, the naive prototypes of earlier work."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VisualBank(nn.Module):
    """Running unit mean of the features of each class, the baseline that CLIP's prototypes are compared with."""

    bank: Tensor

    def __init__(self, num_classes: int, dim: int, momentum: float) -> None:
        """Start with an empty bank.

        Args:
            num_classes: K, the number of classes.
            dim: D, the width of the joint space.
            momentum: mu, in [0, 1). A class whose total weight in the batch is below 64 is updated by less.
        """
        super().__init__()
        self.momentum = momentum
        self.register_buffer("bank", torch.zeros(num_classes, dim))

    def update(self, sums: Tensor) -> None:
        """M_k <- norm(mu_k M_k + (1 - mu_k) S_k / C_k), mu_k = mu^min(1, C_k / 64); the first update sets M_k.

        Args:
            sums: (K, D + 1), S_k and C_k summed over all ranks.
        """
        total, weight = sums[:, :-1], sums[:, -1:]
        mean = total / weight.clamp_min(1e-12)
        momentum = self.momentum ** (weight / 64).clamp_max(1)
        first = self.bank.abs().amax(dim=1, keepdim=True) == 0
        moved = torch.where(first, mean, momentum * self.bank + (1 - momentum) * mean)
        self.bank.copy_(torch.where(weight > 0, F.normalize(moved, dim=-1), self.bank))


def feature_sums(features: Tensor, weight: Tensor, one_hot: Tensor) -> Tensor:
    """Return (K, D + 1): S_k = sum w_n m_n z_n and C_k = sum w_n m_n of each class in this rank's batch.

    Args:
        features: (B, n, D) of any norm; z_n is the normalised feature.
        weight: (B, n), w_n m_n: the weight of a position times the share of its class in the cell.
        one_hot: (B, n, K), with a zero row for each position that does not count.
    """
    share = (one_hot * weight.unsqueeze(-1)).detach().flatten(0, 1)
    flat = features.detach().flatten(0, 1)
    norm = torch.linalg.vector_norm(flat, dim=-1, keepdim=True).clamp_min(1e-12)
    total = (share / norm).T @ flat  # an einsum would copy the features
    return torch.cat([total, share.sum(dim=0).unsqueeze(1)], dim=1)
