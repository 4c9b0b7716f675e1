"""The supervised loss: cross entropy of the segmenter's logits, with pixel weights if PPAR gives them."""

import torch
from torch import Tensor

from ppar_lightning.distributed import all_reduce_sum, world_size
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.method.cross_entropy import upsampled_cross_entropy
from ppar_lightning.segmenter.segmenter import SegmenterOutput


def supervised_terms(
    output: SegmenterOutput, label: Tensor, weight: Tensor | None = None, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Cross entropy over the valid pixels of the global batch.

    The mean of each term over ranks equals its value on the concatenated batch, however the valid pixels are
    distributed over the ranks. Without any valid pixel it is 0.

    Args:
        output: Output of the segmenter.
        label: (B, H, W) train ids, IGNORE included.
        weight: (B, H, W) pixel weights; None gives every pixel the weight 1.
        valid: Number of valid pixels over all ranks, a scalar; None counts them.

    Returns:
        ``ce`` and, where the segmenter has an auxiliary head, ``aux`` (already multiplied by 0.4), scalars in nats.
    """
    known = (label != IGNORE).float()
    valid = all_reduce_sum(known.sum()) if valid is None else valid
    scale = world_size() / valid.clamp_min(1)
    own = label.unsqueeze(1) == torch.arange(output.coarse.shape[1], device=label.device).view(-1, 1, 1)
    pixel = known if weight is None else known * weight
    terms = {"ce": upsampled_cross_entropy(output.coarse, output.covered, own, pixel) * scale}
    if output.auxiliary is not None:
        terms["aux"] = upsampled_cross_entropy(output.auxiliary, output.covered, own, known) * (0.4 * scale)
    return terms
