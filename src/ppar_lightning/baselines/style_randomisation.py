"""Style randomisation: a strong photometric recipe, the plainest baseline of domain generalisation.

Training images lose the colours, tones and grain of their source, so that a network cannot lean on them. What is where
stays: labels are not touched.
"""

import albumentations as A

from ppar_lightning.images.colour import ColourJitter


def style_randomisation(probability: float) -> A.Sequential:
    """Compose the recipe; with `probability` an image goes through all of it, each step having a chance of its own.

    The tone curve, bent for each channel by itself, and the shuffled channels change what colour things have; gamma,
    noise and blur what light and camera there were.
    """
    return A.Sequential(
        [
            ColourJitter(0.8, p=0.8),
            A.RandomToneCurve(scale=0.3, per_channel=True, p=0.5),
            A.RandomGamma((40, 250), p=0.5),
            A.ChannelShuffle(p=0.2),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 2.0), p=0.3),
            A.GaussNoise(std_range=(0.01, 0.1), p=0.3),
        ],
        p=probability,
    )
