"""Colours of a label picture and what they mean."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ppar_lightning.images.decoding import Array

Colour = tuple[int, int, int]
ColourKey = tuple[tuple[Colour, int], ...]
"""RGB colours, 0-255, each once, with their train ids or IGNORE."""

PACK = np.array([1, 1 << 8, 1 << 16])
"""Turns a colour into one number."""

SOFT = 32
"""Largest distance that an error proposes to allow, as of soft brushes; further away are other colours."""

SHOWN = 3
"""Number of unknown colours that an error names, the most frequent first."""


def colours_to_train_ids(picture: Array, key: ColourKey, distance: float, path: Path) -> Array:
    """Map the colours of a label to train ids.

    Args:
        picture: (H, W, 3) RGB.
        key: The known colours.
        distance: Another colour counts as the nearest of these, up to this Euclidean distance, in levels of 0-255.
        path: The label file, for error messages.

    Returns:
        (H, W) train ids or IGNORE.

    Raises:
        ValueError: A colour is further from all known ones.
    """
    codes = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF  # four times faster than PACK
    found = np.take(_table(key), codes)
    other = found == 0
    if other.any():
        values, place, counts = np.unique(codes[other], return_inverse=True, return_counts=True)
        colours = values[:, None] // PACK % 256
        away, nearest = cKDTree([colour for colour, _ in key]).query(colours)
        far = np.flatnonzero(away > distance)
        if len(far):
            first = far[np.argsort(-counts[far], kind="stable")][:SHOWN]
            shares = counts / codes.size
            shown = [f"'#{bytes(colours[k].tolist()).hex()}' ({shares[k]:.2%} of the pixels)" for k in first]
            named = ", ".join(shown) + f" and {len(far) - SHOWN} more colours" * (len(far) > SHOWN)
            remedy = "give a class this colour, or map it in ids as a class or as ignore"
            if away.max() <= SOFT:
                remedy += f", or raise colour_distance to {np.ceil(away.max()):.0f}"
            raise ValueError(f"{path}: {named} belong to no class; {remedy}")
        found[other] = np.array([meaning + 1 for _, meaning in key], dtype=np.uint16)[nearest][place]
    return (found - 1).astype(np.uint8)


@lru_cache(maxsize=16)
def _table(key: ColourKey) -> npt.NDArray[np.uint16]:
    """Return (2^24,) 1 + the train id of each colour, 0 if there is none; pages of zeros take no memory."""
    table = np.zeros(1 << 24, dtype=np.uint16)
    table[[int(PACK @ colour) for colour, _ in key]] = [meaning + 1 for _, meaning in key]
    return table
