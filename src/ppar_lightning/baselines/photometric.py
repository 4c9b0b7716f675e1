"""The photometric counterpart of a batch: the same scenes in other colours, computed on the images' device."""

import numpy as np
import torch
from torch import Tensor

from ppar_lightning.images.colour import LUMA, saturate, turn_hue
from ppar_lightning.images.variation import gaussian_blur

STRENGTH = 0.8
"""Largest relative change of brightness, contrast and saturation."""

TURN = 0.3
"""Largest turn of the hue, 1 being the whole circle."""

SIGMAS = (0.15, 1.15)
"""Deviations of the blur, in pixels."""


@torch.no_grad()
def photometric(image: Tensor, seed: tuple[int, ...]) -> Tensor:
    """Change colours and blur as strongly as RobustNet does to measure style.

    The result depends only on the image and the seed. All images of a step change alike, so N ranks see what one rank
    sees, and a resumed run what an uninterrupted run sees.

    Args:
        image: (B, 3, H, W) float RGB in [0, 1].
        seed: Non-negative integers that fix the change, such as (seed, step).

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    brightness, contrast, saturation = rng.uniform(1 - STRENGTH, 1 + STRENGTH, 3)
    colours = brightness * turn_hue(rng.uniform(-TURN, TURN)) @ saturate(saturation)
    with torch.autocast(image.device.type, enabled=False):
        changed = torch.einsum("dc,bchw->bdhw", image.new_tensor(colours.astype(np.float32)), image)
        weights = image.new_tensor(LUMA.astype(np.float32))
        luma = torch.einsum("c,bchw->bhw", weights, changed).mean(dim=(1, 2)).view(-1, 1, 1, 1)
        sigma = image.new_full(image.shape[:1], rng.uniform(*SIGMAS))
        return gaussian_blur((luma + contrast * (changed - luma)).clamp(0, 1), sigma)
