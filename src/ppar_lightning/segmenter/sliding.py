"""Sliding-window inference, and predictions at the size of the labels, in bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def slide(segment: Callable[[Tensor], Tensor], image: Tensor, size: int, stride: int) -> Tensor:
    """Segment an image window by window and average the logits where windows overlap.

    One window is in work at a time: beside its forward pass, memory holds the logits of the image once. Where the
    window covers the image the result is that of the whole image.

    Args:
        segment: (B, 3, h, w) -> (B, K, h, w) logits.
        image: (B, 3, H, W).
        size: side of the window in pixels; a side of the image that is shorter is taken whole.
        stride: step in pixels, at most the size.

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
    """First pixels of the windows along a side; the last one ends at the border."""
    last = max(0, length - size)
    return [*range(0, last, stride), last]


def predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Train ids at the size of the labels.

    Logits of another size are resized bilinearly, one class at a time, so that they never stand there at once.

    Args:
        logits: (B, K, h, w).
        size: (H, W) of the labels.

    Returns:
        (B, H, W) int64; the first of equals, as argmax.
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
