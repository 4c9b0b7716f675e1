"""The supervised loss: cross entropy of the segmenter's logits, with pixel weights if PPAR gives them, or of masks."""

import torch
from torch import Tensor

from ppar_lightning.distributed import all_reduce_sum, world_size
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.method.grid import interpolation
from ppar_lightning.method.known_gradient import known_gradient
from ppar_lightning.method.mask_loss import mask_terms
from ppar_lightning.segmenter.segmenter import SegmenterOutput


def supervised_terms(
    output: SegmenterOutput, label: Tensor, weight: Tensor | None = None, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Cross entropy over the valid pixels of the global batch, or, where the segmenter has queries, their loss.

    The mean of each term over ranks equals its value on the concatenated batch, however the valid pixels are
    distributed over the ranks. Without any valid pixel it is 0. A label that is neither a class
    nor IGNORE makes it NaN.

    Args:
        output: Output of the segmenter.
        label: (B, H, W) train ids, IGNORE included.
        weight: (B, H, W) pixel weights; None gives every pixel the weight 1.
        valid: Number of valid pixels over all ranks, a scalar, at least 1; None counts them.

    Returns:
        ``ce`` and, where the segmenter has an auxiliary head, ``aux`` (already multiplied by 0.4), scalars in nats; of
        queries what `mask_terms` returns, which knows no weights.
    """
    own = label.unsqueeze(1) == torch.arange(output.coarse.shape[1], device=label.device).view(-1, 1, 1)
    known = (label != IGNORE).float()
    known = known.masked_fill(known > own.any(dim=1), torch.nan)
    if output.queries:
        return mask_terms(output.queries, output.covered, own, known)
    scale = world_size() / (all_reduce_sum(known.sum()).clamp_min(1) if valid is None else valid)
    pixel = known if weight is None else known * weight
    terms = {"ce": upsampled_cross_entropy(output.coarse, output.covered, own, pixel) * scale}
    if output.auxiliary is not None:
        terms["aux"] = upsampled_cross_entropy(output.auxiliary, output.covered, own, known) * (0.4 * scale)
    return terms


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
        place = logits.device, logits.dtype
        rows, columns = (interpolation(pixels, size / pixels, size, *place)[:kept] for pixels, size, kept in axes)
        log_p = (rows @ logits @ columns.T).log_softmax(dim=1)
        value = -((log_p * own).sum(dim=1) * weight).sum()
        slope = log_p.exp_().sub_(own.view(torch.uint8)).mul_(weight.unsqueeze(1))
        gradient = rows.T @ slope @ columns
    return known_gradient(coarse, value, gradient)
