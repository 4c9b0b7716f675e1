"""Inference on a batch: whole or through a window, and with the class probabilities of several copies averaged."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.images.tta import Copy
from ppar_lightning.segmenter.sliding import slide

LEAST = torch.finfo(torch.float32).tiny
"""Smallest probability that is told from 0, so that every logarithm is finite."""


def infer(
    segment: Callable[[Tensor], Tensor],
    image: Tensor,
    window: Sequence[int] | None = None,
    copies: Sequence[Copy] = (),
    per_pixel: bool = True,
) -> Tensor:
    """Segment images.

    With copies, their class probabilities are averaged at the size of the images. Images and logits are resized
    bilinearly without a low-pass filter, as OpenCV resizes. Memory then holds the probabilities up to three times
    besides the logits of the largest copy.

    Args:
        segment: Function from (B, 3, h, w) images to (B, K, h, w) logits.
        image: (B, 3, H, W) RGB in [0, 1].
        window: Size and stride in pixels of a sliding window; None segments whole images.
        copies: Scale of each copy, and whether it is mirrored; empty segments the images as they are.
        per_pixel: Windows average logits; if False these are logarithms, and windows average what they are of, as the
            papers' codes average the scores of queries.

    Returns:
        (B, K, H, W) logits; with copies float32, the logarithms of the mean probabilities.
    """
    if not copies:
        if window is None or per_pixel:
            return segment(image) if window is None else slide(segment, image, window[0], window[1])
        return slide(lambda parts: segment(parts).float().exp(), image, window[0], window[1]).clamp(min=LEAST).log()
    height, width = image.shape[-2:]
    total = image.new_zeros(())
    for scale, mirrored in copies:
        size = max(1, round(scale * height)), max(1, round(scale * width))
        copy = F.interpolate(image, size, mode="bilinear", align_corners=False)
        logits = infer(segment, copy.flip(-1) if mirrored else copy, window, per_pixel=per_pixel).float()
        scores = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False).softmax(dim=1)
        total = total + (scores.flip(-1) if mirrored else scores)
    return (total / len(copies)).clamp(min=LEAST).log()
