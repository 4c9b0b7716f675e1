"""Cross entropy of logits that are resized to the image, without keeping anything at the size of the image."""

import torch
from torch import Tensor

from ppar_lightning.method.grid import interpolation
from ppar_lightning.method.known_gradient import known_gradient


def upsampled_cross_entropy(coarse: Tensor, covered: tuple[int, int], own: Tensor, weight: Tensor) -> Tensor:
    """Sum of w_n times the cross entropy of pixel n, over logits that are resized bilinearly, in fp32.

    Resizing is a product with one matrix for each axis, and so is its gradient, which is computed at once: the loss is
    linear in the cross entropies, whose gradient is softmax - one_hot. Only that of the coarse logits is kept.

    Args:
        coarse: (B, K, h, w) logits.
        covered: (H', W') of the padded image that they cover, at least (H, W).
        own: (B, K, H, W) bool: whether k is the label of the pixel.
        weight: (B, H, W) float, without gradient; 0 where a pixel has no label.

    Returns:
        A scalar, in nats.
    """
    with torch.no_grad(), torch.autocast(coarse.device.type, enabled=False):
        logits = coarse.detach().float()
        axes = zip(covered, logits.shape[-2:], own.shape[-2:], strict=True)
        rows, columns = (interpolation(pixels, size / pixels, size, logits)[:kept] for pixels, size, kept in axes)
        log_p = (rows @ logits @ columns.T).log_softmax(dim=1)
        value = -(torch.where(own, log_p, 0).sum(dim=1) * weight).sum()
        slope = log_p.exp_().sub_(own.view(torch.uint8)).mul_(weight.unsqueeze(1))
        gradient = rows.T @ slope @ columns
    return known_gradient(coarse, value, gradient)
