"""Source samples spoilt on purpose: what reweighting should give less weight."""

from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.data.dataset import Sample
from ppar_lightning.images.classes import IGNORE

Corruption = Literal["labels", "texture"]

CORRUPTIONS: tuple[Corruption, ...] = ("labels", "texture")


class Corrupted(NamedTuple):
    """A sample, and where it was spoilt."""

    sample: Sample
    mask: npt.NDArray[np.bool_]
    """(H, W): pixels whose label is wrong, or whose label no longer stands for what is seen."""


def corrupt(sample: Sample, kind: Corruption, rng: np.random.Generator) -> Corrupted:
    """Spoil a sample; the one given stays as it is.

    Args:
        sample: Image (H, W, 3), label (H, W), any size.
        kind: ``labels`` permutes the classes of the image, each of them getting another's name; ignored pixels, and an
            image of one class, stay. ``texture`` covers a rectangle of half the height and half the width with random
            colours, and keeps the labels under it.
        rng: Equal states spoil alike.
    """
    if kind == "labels":
        label = permute_classes(sample["label"], rng)
        return Corrupted({**sample, "label": label}, label != sample["label"])
    height, width = sample["label"].shape
    top, left = (int(rng.integers(side - side // 2 + 1)) for side in (height, width))
    place = (slice(top, top + height // 2), slice(left, left + width // 2))
    image, mask = sample["image"].copy(), np.zeros((height, width), dtype=bool)
    image[place] = draw_texture(height // 2, width // 2, rng)
    mask[place] = sample["label"][place] != IGNORE
    return Corrupted({**sample, "image": image}, mask)


def permute_classes(label: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Rename the classes of a label in one cycle through all of them, so that none keeps its name."""
    present = rng.permutation(np.setdiff1d(label, [IGNORE]))
    table = np.arange(IGNORE + 1, dtype=np.uint8)
    table[present] = np.roll(present, 1)
    return table[label]


def draw_texture(height: int, width: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw blotches of random colours, (height, width, 3), each 2 to 16 pixels wide."""
    size = int(rng.integers(2, 17))
    cells = rng.integers(256, size=(-(-height // size), -(-width // size), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
