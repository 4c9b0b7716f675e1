"""The two prototypes of each class: OTP, CLIP's text embedding, and VTP, the text refined by visual context."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppar_lightning.method.grid import GridLabels

WIDTH = 256
SAME = 0.999
"""Least cosine of two text prototypes of one class that count as the same."""
GAMMA = 1e-2
"""Initial value of gamma: VTP starts close to OTP, and the context decoder can still learn."""


class ContextDecoder(nn.Module):
    """Delta = ContextDecoder(query=T0, memory=V): a correction of each class's text by the visual context."""

    def __init__(self, dim: int) -> None:
        """Build a pre-norm transformer decoder like DenseCLIP's: width 256, 3 layers, 4 heads, dropout 0.1.

        Args:
            dim: D, the width of the joint space, which text and visual context share.
        """
        super().__init__()
        self.query = nn.Linear(dim, WIDTH)
        self.memory = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, WIDTH), nn.LayerNorm(WIDTH))
        layer = nn.TransformerDecoderLayer(WIDTH, 4, 4 * WIDTH, 0.1, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 3, norm=nn.LayerNorm(WIDTH))
        self.out = nn.Linear(WIDTH, dim)

    def forward(self, text: Tensor, context: Tensor) -> Tensor:
        """Compute Delta for each image.

        Args:
            text: (K, D) text prototypes.
            context: (B, M, D) visual context.

        Returns:
            (B, K, D).
        """
        query = self.query(text).expand(len(context), -1, -1)
        return self.out(self.decoder(query, self.memory(context)))


class Prototypes(nn.Module):
    """OTP (frozen), the VTP of each image, and the bank Pv of VTPs that features are aligned with."""

    otp: Tensor
    bank: Tensor

    def __init__(self, text: Tensor, momentum: float) -> None:
        """Start the bank at the text prototypes.

        Args:
            text: (K, D) unit vectors, T0.
            momentum: mu, the momentum of the bank, in [0, 1).
        """
        super().__init__()
        self.momentum = momentum
        self.decoder = ContextDecoder(text.shape[1])
        self.gamma = nn.Parameter(torch.full((text.shape[1],), GAMMA))
        self.register_buffer("otp", text.clone())
        self.register_buffer("bank", text.clone())

    def forward(self, context: Tensor) -> Tensor:
        """Tv_{b,k} = norm(T0_k + gamma (.) Delta_{b,k}).

        Args:
            context: (B, M, D) visual context, without gradient.

        Returns:
            (B, K, D) unit vectors.
        """
        delta = self.decoder(self.otp, context.detach())
        return F.normalize(self.otp + self.gamma * delta.float(), dim=-1)

    def refuse_other_text(self, otp: Tensor) -> None:
        """Refuse the text of a checkpoint if it differs from that of the options by more than rounding.

        Loading it would replace the text in silence. Zeros, which stand for a text that was not read, fit any.

        Args:
            otp: (K, D) unit vectors of the checkpoint.

        Raises:
            ValueError: The text differs.
        """
        if otp.shape != self.otp.shape or not self.otp.any():
            return
        least = float((otp.to(self.otp) * self.otp).sum(dim=1).min())
        if least < SAME:
            fault = f"the config gives other text prototypes than the checkpoint holds (least cosine {least:.3f})"
            options = "data.classes, ppar.clip, prompts, text_embeddings, centre and random_text"
            raise ValueError(f"{fault}: set {options} as in its training, or train anew in another folder")

    def update(self, sums: Tensor) -> None:
        """Update the bank for the classes present: Pv_k <- norm(mu Pv_k + (1 - mu) s_k / n_k).

        Args:
            sums: (K, D + 1), s_k and n_k summed over all ranks.
        """
        count = sums[:, -1:]
        moved = F.normalize(torch.lerp(sums[:, :-1] / count.clamp_min(1), self.bank, self.momentum), dim=-1)
        self.bank.copy_(torch.where(count > 0, moved, self.bank))


def vtp_sums(vtp: Tensor, present: Tensor) -> Tensor:
    """Return (K, D + 1): s_k, the sum of VTP over the images that show class k, and n_k, their number."""
    seen = present.float()
    return torch.cat([torch.einsum("bkd,bk->kd", vtp.detach(), seen), seen.sum(dim=0).unsqueeze(1)], dim=1)


def vtp_nll(vtp: Tensor, dense: Tensor, labels: GridLabels, tau: float) -> Tensor:
    """L_vtp: cross entropy of softmax_k(<g, Tv_b> / tau), with g the frozen dense features.

    Args:
        vtp: (B, K, D) unit vectors.
        dense: (B, N, D) dense features of any norm; they receive no gradient.
        labels: Labels on the grid of ``dense``.
        tau: Temperature, above 0.

    Returns:
        The sum over this rank's counted positions, a scalar.
    """
    logits = F.normalize(dense.detach().float(), dim=-1) @ vtp.transpose(1, 2) / tau
    loss = F.cross_entropy(logits.flatten(0, 1), labels.label.flatten(), reduction="none")
    return (loss * labels.counted.flatten()).sum()


def anchor_distance(vtp: Tensor, otp: Tensor, present: Tensor) -> Tensor:
    """L_anchor: sum of 1 - <Tv_{b,k}, T0_k> over this rank's pairs of an image and a class present in it."""
    return ((1 - torch.einsum("bkd,kd->bk", vtp, otp)) * present).sum()
