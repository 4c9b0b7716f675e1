"""Sliding-window inference, and predictions at the size of the labels, in bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def slide(segment: Callable[[Tensor], Tensor], image: Tensor, size: int, stride: int) -> Tensor:
    """Segment an image window by window and average the logits where windows overlap.

    Windows are processed one at a time, so memory holds one copy of the image's logits besides the forward pass of a
    window. If one window covers the image, the result equals that of the whole image.

    Args:
        segment: Function from (B, 3, h, w) images to (B, K, h, w) logits.
        image: (B, 3, H, W) RGB in [0, 1].
        size: Side of the window in pixels; a shorter side of the image is taken whole.
        stride: Step between windows in pixels, at most ``size``.

    Returns:
        (B, K, H, W).
    """
    height, width = image.shape[-2:]
    visits = image.new_zeros(height, width)
    total: Tensor | None = None
    for top in starts(height, size, stride):
        for left in starts(width, size, stride):
            part = (..., slice(top, top + size), slice(left, left + size))
            logits = segment(image[part]).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], height, width)
            total[part] += logits
            visits[part] += 1
    assert total is not None  # there is at least one window
    return total.div_(visits)


def starts(length: int, size: int, stride: int) -> list[int]:
    """Return the first pixel of each window along a side; the last window ends at the border."""
    last = max(0, length - size)
    return [*range(0, last, stride), last]


def predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn logits into train ids at the size of the labels.

    Logits of another size are resized bilinearly, one class at a time, so that memory never holds all of them resized.

    Args:
        logits: (B, K, h, w).
        size: (H, W) of the labels.

    Returns:
        (B, H, W) int64; if logits are equal, the first class wins, as in argmax.
    """
    if logits.shape[-2:] == size:
        return logits.argmax(dim=1)
    best = logits.new_full((len(logits), *size), -torch.inf, dtype=torch.float32)
    winner = torch.zeros_like(best, dtype=torch.long)
    for k in range(logits.shape[1]):
        scores = F.interpolate(logits[:, k : k + 1].float(), size, mode="bilinear", align_corners=False).squeeze(1)
        winner[scores > best] = k
        best = torch.maximum(best, scores)
    return winner
