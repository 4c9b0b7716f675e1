"""Source samples that are corrupted on purpose: reweighting should give them less weight."""

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.data.dataset import Sample
from ppar_lightning.images.classes import IGNORE

Corruption = Literal["labels", "texture"]

CORRUPTIONS: tuple[Corruption, ...] = ("labels", "texture")


def corrupt(sample: Sample, kind: Corruption, rng: np.random.Generator) -> Sample:
    """Corrupt a copy of a sample.

    Args:
        sample: Image (H, W, 3) and label (H, W), of any size.
        kind: ``labels`` permutes the classes of the label, so that each class gets the id of another; ignored pixels
            and labels of a single class do not change. ``texture`` covers a rectangle of half the height and half the
            width of the image with random colours, and keeps the labels under it.
        rng: Random generator.
    """
    if kind == "labels":
        present = rng.permutation(np.setdiff1d(sample["label"], [IGNORE]))
        table = np.arange(IGNORE + 1, dtype=np.uint8)
        table[present] = np.roll(present, 1)  # one cycle through all classes, so that none keeps its id
        return {**sample, "label": table[sample["label"]]}
    height, width = sample["label"].shape
    top, left = (int(rng.integers(side - side // 2 + 1)) for side in (height, width))
    place = (slice(top, top + height // 2), slice(left, left + width // 2))
    image = sample["image"].copy()
    size = int(rng.integers(2, 17))  # blotches of 2 to 16 pixels
    cells = rng.integers(256, size=(-(-(height // 2) // size), -(-(width // 2) // size), 3), dtype=np.uint8)
    image[place] = cv2.resize(cells, (width // 2, height // 2), interpolation=cv2.INTER_LINEAR)
    return {**sample, "image": image}


def changed(before: Sample, after: Sample) -> npt.NDArray[np.bool_]:
    """Return the labelled pixels, (H, W), whose image or label a corruption has changed."""
    different = (after["image"] != before["image"]).any(axis=-1) | (after["label"] != before["label"])
    return different & (before["label"] != IGNORE)
