"""Sliding-window inference, and predictions at the size of the labels, in bounded memory."""

from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate, pairwise, product

import torch
from torch import Tensor
from torch.nn import functional as F

PIXELS = {"cpu": 2**18, "cuda": 2**21}
"""Type of device -> pixels of the windows that are segmented at once; a GPU is busy with as many as Cityscapes has."""

SCORES = 2**25
"""Number of resized scores that are in memory at once."""

fitting: dict[tuple[torch.device, int, int], int] = {}
"""Device, height and width of a window -> number of windows that its memory holds, where fewer than PIXELS fit."""


@torch.no_grad()
def slide(segment: Callable[[Tensor], Tensor], image: Tensor, size: int, stride: int) -> Tensor:
    """Segment an image window by window and average the logits where windows overlap.

    The windows of all images are processed in batches. If the memory is too small for a batch, its windows are
    processed in halves, and later batches are as small. Memory holds one copy of the images' logits besides the forward
    pass of a batch. If one window covers the image, the result equals that of the whole image.

    Args:
        segment: Function from (N, 3, h, w) images to (N, K, h, w) logits.
        image: (B, 3, H, W) RGB in [0, 1].
        size: Side of the window in pixels; a shorter side of the image is taken whole.
        stride: Step between windows in pixels, at most ``size``.

    Returns:
        (B, K, H, W) float32.
    """
    batch, _, height, width = image.shape
    key = image.device, min(size, height), min(size, width)
    down, right = (torch.arange(side, device=image.device) for side in key[1:])
    inside, pixels = down[:, None] * width + right, image.transpose(0, 1).flatten(1)
    corners, ends, visits = lay_out(image.shape, size, stride, image.device)
    number, done = fitting.get(key, max(1, PIXELS.get(image.device.type, 2**18) // inside.numel())), 0
    total = logits = image.new_zeros(0)
    while done < len(corners):
        places = corners[done : done + number, None, None] + inside
        try:
            logits = segment(pixels[:, places].transpose(0, 1).contiguous()).float().transpose(0, 1).contiguous()
            total = total if len(total) else logits.new_zeros(len(logits), batch * height * width)
        except torch.OutOfMemoryError:
            if len(places) == 1:
                raise
            number = fitting[key] = len(places) // 2
            continue
        stop = done + len(places)
        for first, last in pairwise([done, *(end for end in ends if done < end < stop), stop]):
            part = slice(first - done, last - done)
            total.index_add_(1, places[part].flatten(), logits[:, part].flatten(1))
        done, logits = stop, total  # which frees those of the windows before the next pass
    return total.view(-1, batch, height, width).div_(visits).transpose(0, 1)


@lru_cache(maxsize=8)
def lay_out(shape: torch.Size, size: int, stride: int, device: torch.device) -> tuple[Tensor, list[int], Tensor]:
    """Lay out the windows of (B, 3, H, W) images in groups whose windows do not overlap.

    So those of a group can be added at once, and the sums are the same each time.

    Returns:
        The first pixel of each window in the (B, H, W) pixels, the ends of the groups, and the number of windows over
        each pixel, (1, H, W).
    """
    groups, visits = [], torch.ones(1)
    for side in shape[2:]:
        firsts, pixel = torch.tensor(starts(side, size, stride)), torch.arange(side)[:, None]
        over = ((firsts <= pixel) & (pixel < firsts + size)).sum(dim=1)
        visits, most = visits[..., None] * over, int(over.max())
        groups.append([firsts[k::most] for k in range(most)])
    images = torch.arange(shape[0])[:, None, None] * shape[2]
    parts = [((images + tops[:, None]) * shape[3] + lefts).flatten() for tops, lefts in product(*groups)]
    ends = [*accumulate(map(len, parts))]
    return torch.cat(parts).to(device, non_blocking=True), ends, visits.to(device, non_blocking=True)


def starts(length: int, size: int, stride: int) -> list[int]:
    """Return the first pixel of each window along a side; the last window ends at the border."""
    last = max(0, length - size)
    return [*range(0, last, stride), last]


@torch.no_grad()
def predict(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn logits into train ids at the size of the labels.

    Logits of another size are resized bilinearly. Where there are more than SCORES of them, memory holds some classes
    at a time.

    Args:
        logits: (B, K, h, w).
        size: (H, W) of the labels.

    Returns:
        (B, H, W) int64; if logits are equal, the first class wins, as in argmax.
    """
    if logits.shape[-2:] == size:
        return logits.max(dim=1).indices  # which a CPU finds three times as fast as argmax
    classes = max(1, SCORES // (len(logits) * size[0] * size[1]))
    best = logits.new_full((len(logits), *size), -torch.inf, dtype=torch.float32)
    winner = torch.zeros_like(best, dtype=torch.long)
    for first in range(0, logits.shape[1], classes):
        part = logits[:, first : first + classes].float()
        scores, ids = F.interpolate(part, size, mode="bilinear", align_corners=False).max(dim=1)
        winner = torch.where(scores > best, ids.add_(first), winner)
        best = torch.maximum(best, scores, out=best)
    return winner
