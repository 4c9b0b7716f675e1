"""The supervised loss: cross entropy of the segmenter's logits, with pixel weights if PPAR gives them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.distributed import all_reduce_sum, world_size
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.segmenter.segmenter import SegmenterOutput


def supervised_terms(output: SegmenterOutput, label: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Cross entropy over the valid pixels of the global batch.

    The mean of each term over ranks equals its value on the concatenated batch, however the valid pixels are
    distributed over the ranks. Without any valid pixel it is 0.

    Args:
        output: Output of the segmenter.
        label: (B, H, W) train ids, IGNORE included.
        weight: (B, H, W) pixel weights; None gives every pixel the weight 1.

    Returns:
        ``ce`` and, where the segmenter has an auxiliary head, ``aux`` (already multiplied by 0.4), scalars in nats.
    """
    valid = all_reduce_sum((label != IGNORE).sum().to(torch.float32)).clamp_min(1)
    scale = world_size() / valid
    loss = F.cross_entropy(output.logits.float(), label, ignore_index=IGNORE, reduction="none")
    terms = {"ce": (loss if weight is None else loss * weight).sum() * scale}
    if output.auxiliary is not None:
        auxiliary = F.cross_entropy(output.auxiliary.float(), label, ignore_index=IGNORE, reduction="sum")
        terms["aux"] = 0.4 * auxiliary * scale
    return terms
