"""Style randomisation: a strong photometric augmentation, the simplest baseline of domain generalisation.

Training images lose the colours, tones and grain of their source, so that a network cannot rely on them. Objects stay
where they are, so labels do not change.
"""

import random

import albumentations as A
import numpy as np

from ppar_lightning.images.colour import apply_map, draw_map
from ppar_lightning.images.decoding import Array

JITTER, JITTER_STRENGTH = 0.8, 0.8
"""Probability and strength of the colour jitter; see `ppar_lightning.images.colour.draw_map`."""


class StyleRandomisation:
    """The recipe: colour jitter, then six transforms of albumentations, each with a probability of its own.

    A tone curve for each channel and shuffled channels change the colours of objects. Gamma, noise and blur imitate
    other light and another camera.

    Args:
        probability: Probability that an image goes through the recipe, in [0, 1].
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability
        self.transforms = [
            A.RandomToneCurve(scale=0.3, per_channel=True, p=0.5),
            A.RandomGamma((40, 250), p=0.5),
            A.ChannelShuffle(p=0.2),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 2.0), p=0.3),
            A.GaussNoise(std_range=(0.01, 0.1), p=0.3),
        ]

    def __call__(self, image: Array, rng: np.random.Generator, chance: random.Random) -> Array:
        """Change the style of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            rng: Random generator for the amounts of the changes.
            chance: Random generator that decides which changes are made.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        if chance.random() >= self.probability:
            return image
        if chance.random() < JITTER:
            image = apply_map(image, draw_map(image, JITTER_STRENGTH, rng))
        for transform in self.transforms:
            transform.set_random_state(rng, chance)
            image = transform(image=image)["image"]
        return image
