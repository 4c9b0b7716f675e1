"""The 19 Cityscapes classes, their colours, and the ids of Cityscapes' label files."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

IGNORE = 255
"""Train id of pixels that are neither trained on nor scored."""

CLASSES: tuple[str, ...] = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
"""Class names; the position is the train id."""

SYNTHIA_16: tuple[int, ...] = tuple(k for k, name in enumerate(CLASSES) if name not in ("terrain", "truck", "train"))
"""Train ids that SYNTHIA labels; the usual second average for models trained on it."""

SYNTHIA_13: tuple[int, ...] = tuple(k for k in SYNTHIA_16 if CLASSES[k] not in ("wall", "fence", "pole"))
"""SYNTHIA's train ids without wall, fence and pole, which some papers leave out."""

PALETTE: npt.NDArray[np.uint8] = np.array(
    [
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ],
    dtype=np.uint8,
)
"""Cityscapes' RGB colour of each train id, (19, 3); IGNORE is drawn black."""

_IN_ORDER_OF_TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LABEL_IDS: Mapping[int, int] = dict(zip(_IN_ORDER_OF_TRAIN_IDS, range(len(CLASSES)), strict=True))
"""Cityscapes label id -> train id; the other ids from 0 to 33, and license plate (-1, stored as 255), are IGNORE."""


def colourise(label: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Colour a map of train ids.

    Args:
        label: (H, W), train ids 0-18 or IGNORE.

    Returns:
        (H, W, 3) uint8 RGB; IGNORE and ids outside the table are black.
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(PALETTE)] = PALETTE
    return table[label.astype(np.uint8)]


def spread_colours(count: int) -> npt.NDArray[np.uint8]:
    """Give other classes than Cityscapes' a colour each, (count, 3) RGB, the same in every process.

    Successive hues are a golden section of the circle apart, so that neighbours differ for any number of classes. Black
    is reserved for IGNORE.
    """
    hues = np.arange(count) * 0.618034 % 1
    values = 1 - 0.25 * (np.arange(count) % 3)
    waves = (np.abs((hues[:, None] * 6 + offset) % 6 - 3) for offset in ([0], [4], [2]))
    colours = np.concatenate([np.clip(wave - 1, 0, 1) for wave in waves], axis=1) * values[:, None]
    return np.asarray((255 * colours).round(), dtype=np.uint8)
