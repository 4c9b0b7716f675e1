"""Flip, colours and blur of training samples: drawn by the workers, applied to whole batches on the device."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.images.colour import draw_map
from ppar_lightning.images.decoding import Array


class Variation(NamedTuple):
    """A variation of one sample, or of B samples with B as the first dimension of each field."""

    colours: Tensor
    """(B, 3, 4) float32: an affine map of RGB in levels of 0 to 255."""
    sigma: Tensor
    """(B,) float32: standard deviation of a Gaussian blur in pixels; 0 blurs nothing."""
    flip: Tensor
    """(B,) bool: whether the sample is flipped horizontally."""


SIGMAS = (0.3, 1.3)
"""Range of the blur's standard deviation, in pixels."""

RADIUS = 4
"""Radius of the blur's kernel, in pixels."""


def draw_variation(
    image: Array, rng: np.random.Generator, chances: tuple[float, float, float], strength: float
) -> Variation:
    """Draw a variation of one sample.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: Random generator.
        chances: Probabilities of a change of colours, of a blur and of a horizontal flip, in [0, 1].
        strength: Strength of the change of colours, see :func:`~ppar_lightning.images.colour.draw_map`.
    """
    jitters, blurs, flips = rng.uniform(size=3) < chances
    colours = draw_map(image, strength, rng) if jitters else np.eye(3, 4)
    sigma = rng.uniform(*SIGMAS) if blurs else 0.0
    return Variation(torch.tensor(colours, dtype=torch.float32), torch.tensor(sigma), torch.tensor(bool(flips)))


@torch.no_grad()
def vary(image: Tensor, label: Tensor, variation: Variation) -> tuple[Tensor, Tensor]:
    """Change the colours, clip, blur, round and flip.

    Args:
        image: (B, 3, H, W) uint8 RGB.
        label: (B, H, W).
        variation: The variation of each image.

    Returns:
        Image and label with the same shapes and types.
    """
    with torch.autocast(image.device.type, enabled=False):
        colours = variation.colours
        changed = torch.baddbmm(colours[:, :, 3:], colours[:, :, :3], image.flatten(2).float()).clamp_(0, 255)
        varied = gaussian_blur(changed.view(image.shape), variation.sigma).round_().byte()
    flips = variation.flip.view(-1, 1, 1)
    return torch.where(flips.unsqueeze(1), varied.flip(-1), varied), torch.where(flips, label.flip(-1), label)


def gaussian_blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own Gaussian, cut off at RADIUS pixels.

    Args:
        image: (B, C, H, W) float.
        sigma: (B,) standard deviations in pixels; 0 leaves an image unchanged.
    """
    shape, channels = image.shape, image.shape[:2].numel()
    steps = torch.arange(-RADIUS, RADIUS + 1, device=image.device)
    taps = F.softmax(-0.5 * (steps / sigma.clamp_min(1e-3).unsqueeze(1)).square(), dim=1)
    taps = taps.to(image.dtype).repeat_interleave(shape[1], dim=0)
    padded = F.pad(image, (RADIUS,) * 4, mode="replicate").flatten(0, 1).unsqueeze(0)
    rows = F.conv2d(padded, taps.view(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, taps.view(channels, 1, -1, 1), groups=channels).view(shape)
