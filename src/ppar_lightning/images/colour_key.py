"""Colours of a label picture and what they mean."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ppar_lightning.images.decoding import Array

Colour = tuple[int, int, int]

PACK = np.array([1, 1 << 8, 1 << 16])
"""Turns a colour into one number."""

SHOWN = 3
"""Number of unknown colours that an error names, the most frequent first."""


@dataclass(frozen=True)
class ColourKey:
    """Train ids of colours.

    Attributes:
        colours: RGB colours, 0-255, each once.
        meanings: Train id of each, or IGNORE.
        distance: Another colour counts as the nearest of these, up to this Euclidean distance, in levels of 0-255.
    """

    colours: tuple[Colour, ...]
    meanings: tuple[int, ...]
    distance: float = 0.0

    def train_ids(self, picture: Array, path: Path) -> Array:
        """Map colours to train ids.

        Args:
            picture: (H, W, 3) RGB.
            path: The label file, for error messages.

        Returns:
            (H, W) train ids or IGNORE.

        Raises:
            ValueError: A colour is further from all known ones than the distance.
        """
        codes = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF  # four times faster than PACK
        found = np.take(_table(self), codes)
        other = found == 0
        if other.any():
            found[other] = self._nearest(codes[other], codes.size, path)
        return (found - 1).astype(np.uint8)

    def _nearest(self, codes: npt.NDArray[np.integer], pixels: int, path: Path) -> npt.NDArray[np.uint16]:
        """Return 1 + the train id of the nearest colour for each of the codes."""
        values, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
        colours = values[:, None] // PACK % 256
        distance, nearest = cKDTree(self.colours).query(colours)
        far = np.flatnonzero(distance > self.distance)
        if len(far):
            first = far[np.argsort(-counts[far], kind="stable")][:SHOWN]
            shares = (f"'#{bytes(colours[k].tolist()).hex()}' ({counts[k] / pixels:.2%} of the pixels)" for k in first)
            more = f" and {len(far) - SHOWN} more colours" if len(far) > SHOWN else ""
            remedy = "give a class this colour, map it in ids as a class or as ignore, or raise colour_distance"
            raise ValueError(
                f"{path}: {', '.join(shares)}{more} belong to no class; {remedy} to {np.ceil(distance.max()):.0f}"
            )
        return np.asarray(self.meanings, dtype=np.uint16)[nearest][place] + 1


@lru_cache(maxsize=16)
def _table(key: ColourKey) -> npt.NDArray[np.uint16]:
    """Return (2^24,) 1 + the train id of each colour, 0 if there is none; pages of zeros take no memory."""
    table = np.zeros(1 << 24, dtype=np.uint16)
    table[np.array(key.colours) @ PACK] = np.array(key.meanings) + 1
    return table
