"""Random crops: a part of an image and its label, resized to the size of the crop."""

import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.decoding import Array, resize

FILL = (124, 116, 104)
"""RGB of padded pixels: ImageNet's mean, which is zero after the usual normalisation."""

TRIES = 10
"""Largest number of boxes that are drawn for a crop."""

STEP = 4
"""Conditions on a crop are checked on every STEP-th row and column of its label only, to save time."""

Box = tuple[int, int, int, int]
"""Top, left, height and width of the part of an image that becomes a crop, in pixels; it may reach outside."""


def draw_box(
    label: Array,
    crop: tuple[int, int],
    scale: tuple[float, float],
    rng: np.random.Generator,
    max_class_share: float = 1.0,
    focus: int | None = None,
    focus_pixels: int = 0,
) -> Box:
    """Draw the box of a crop: the first of at most TRIES boxes that meets the conditions, or else the last of them.

    Args:
        label: (H, W) uint8 train ids or IGNORE.
        crop: (height, width) of the crop.
        scale: Smallest and largest factor that the image is resized by.
        rng: Random generator.
        max_class_share: Condition: largest share of the crop's labelled pixels that one class may have.
        focus: Train id that the crop should show.
        focus_pixels: Condition: the crop shows more pixels of `focus` than this. With 0, every box is placed around a
            pixel of `focus` instead.
    """
    factor = rng.uniform(*scale)
    size = [max(1, round(side / factor)) for side in crop]
    coarse = np.ascontiguousarray(label[::STEP, ::STEP])
    seeds = np.flatnonzero(label == focus) if focus is not None and focus_pixels == 0 else np.empty(0, int)
    enough = focus_pixels * (size[0] * size[1]) / (crop[0] * crop[1] * STEP**2)
    for _ in range(TRIES):
        box = _place(label.shape, size, seeds, rng)
        counts = coarse_counts(coarse, box)
        held = focus_pixels == 0 or focus is None or counts[focus] > enough
        if held and largest_share(counts) <= max_class_share:
            break
    return box


def _place(shape: tuple[int, ...], size: list[int], seeds: npt.NDArray[np.integer], rng: np.random.Generator) -> Box:
    """Place a box anywhere in the image, or around one of the seeds, which are flat indices of pixels."""
    limits = [(min(0, room), max(0, room)) for room in (shape[0] - size[0], shape[1] - size[1])]
    if len(seeds):
        seed = divmod(int(rng.choice(seeds)), shape[1])
        limits = [(max(a, x - n + 1), min(b, x)) for (a, b), x, n in zip(limits, seed, size, strict=True)]
    top, left = (int(rng.integers(low, high, endpoint=True)) for low, high in limits)
    return top, left, size[0], size[1]


def cut(array: Array, box: Box, crop: tuple[int, int]) -> Array:
    """Cut a box out of an image or a label and resize it to the crop, in one resize of the pixels inside the image.

    Where the box reaches outside, an image is padded with FILL and a label with IGNORE.

    Args:
        array: (H, W, 3) uint8 image, interpolated linearly (down to half size this sees every pixel), or (H, W) uint8
            label, interpolated by the nearest pixel.
        box: Part of the array to cut out.
        crop: (height, width) of the result.
    """
    interpolation, fill = (cv2.INTER_LINEAR, FILL) if array.ndim == 3 else (cv2.INTER_NEAREST_EXACT, (IGNORE,))
    part = array[max(0, box[0]) : box[0] + box[2], max(0, box[1]) : box[1] + box[3]]
    zooms = crop[0] / box[2], crop[1] / box[3]
    rows, columns = (max(1, round(side * zoom)) for side, zoom in zip(part.shape[:2], zooms, strict=True))
    part = resize(part, (rows, columns), interpolation)
    if (rows, columns) == crop:
        return part
    top, left = (round(max(0, -start) * zoom) for start, zoom in zip(box[:2], zooms, strict=True))
    # rounding up both the offset and the part may exceed the crop
    top, left = min(top, crop[0] - rows), min(left, crop[1] - columns)
    bottom, right = crop[0] - rows - top, crop[1] - columns - left
    padded = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)
    return np.asarray(padded, dtype=np.uint8)


def coarse_counts(coarse: Array, box: Box) -> npt.NDArray[np.int64]:
    """Count the pixels of each value, (256,), that a box shows of every STEP-th row and column of a label."""
    top, left, height, width = box
    sides = ((top, height), (left, width))
    rows, columns = (slice(max(0, -(-start // STEP)), -(-(start + side) // STEP)) for start, side in sides)
    histogram = cv2.calcHist([coarse[rows, columns]], [0], None, [IGNORE + 1], [0, IGNORE + 1])  # faster than bincount
    return histogram.ravel().astype(np.int64)


def largest_share(counts: npt.NDArray[np.int64]) -> float:
    """Return the share of the most frequent class among the labelled pixels, from (256,) counts; 1 without any."""
    labelled = counts[:IGNORE]
    return float(labelled.max() / labelled.sum()) if labelled.any() else 1.0
