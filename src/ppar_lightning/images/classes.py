"""The 19 Cityscapes classes, their colours, and the ids of Cityscapes' label files."""

from collections.abc import Mapping
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import yaml

IGNORE = 255
"""Train id of pixels that are neither trained on nor scored."""

_ROWS = yaml.safe_load((files(__package__) / "cityscapes19.yaml").read_text())

CLASSES: tuple[str, ...] = tuple(row["name"] for row in _ROWS)
"""Class names; the position is the train id."""

SYNTHIA_16: tuple[int, ...] = tuple(k for k, name in enumerate(CLASSES) if name not in ("terrain", "truck", "train"))
"""Train ids that SYNTHIA labels; the usual second average for models trained on it."""

SYNTHIA_13: tuple[int, ...] = tuple(k for k in SYNTHIA_16 if CLASSES[k] not in ("wall", "fence", "pole"))
"""SYNTHIA's train ids without wall, fence and pole, which some papers leave out."""

PALETTE: npt.NDArray[np.uint8] = np.array([row["colour"] for row in _ROWS], dtype=np.uint8)
"""Cityscapes' RGB colour of each train id, (19, 3); IGNORE is drawn black."""

CITYSCAPES_LABEL_IDS: Mapping[int, int] = {row["label_id"]: train_id for train_id, row in enumerate(_ROWS)}
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
    """Choose colours for classes other than Cityscapes': (count, 3) uint8 RGB, the same in every process.

    Successive hues are a golden section of the circle apart, so that neighbouring classes differ however many there
    are. Black is not used, because it stands for IGNORE.
    """
    hues = np.arange(count) * 0.618034 % 1
    values = 1 - 0.25 * (np.arange(count) % 3)
    waves = (np.abs((hues[:, None] * 6 + offset) % 6 - 3) for offset in ([0], [4], [2]))
    colours = np.concatenate([np.clip(wave - 1, 0, 1) for wave in waves], axis=1) * values[:, None]
    return np.asarray((255 * colours).round(), dtype=np.uint8)
