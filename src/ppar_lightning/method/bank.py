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
        weight = sums[:, -1:]
        mean = sums[:, :-1] / weight.clamp_min(1e-12)
        momentum = self.momentum ** (weight / 64).clamp_max(1) * self.bank.any(dim=1, keepdim=True)
        moved = F.normalize(torch.lerp(mean, self.bank, momentum), dim=-1)
        self.bank.copy_(torch.where(weight > 0, moved, self.bank))
