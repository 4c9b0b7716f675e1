"""Samples with their labels laid over them, on one sheet a domain."""

from collections.abc import Sequence

import cv2
import numpy as np

from ppar_lightning.images.classes import CLASSES, IGNORE, PALETTE, colourise
from ppar_lightning.images.decoding import Array

WIDTH = 320
"""Of a tile, in pixels."""
COLUMNS = 4
CAPTION = 18
SWATCHES = 8
"""Classes in a row of the legend."""


def overlay(image: Array, label: Array, width: int = WIDTH) -> Array:
    """Mix an image with the colours of its label, half and half; ignored pixels show the image alone.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8 train ids or IGNORE.
        width: Of the result, in pixels.

    Returns:
        (width * H / W, width, 3) uint8 RGB.
    """
    size = (width, max(1, round(width * image.shape[0] / image.shape[1])))
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    label = np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
    mixed = cv2.addWeighted(image, 0.5, colourise(label), 0.5, 0)
    return np.where(label[..., None] == IGNORE, image, mixed).astype(np.uint8)


def sheet(tiles: Sequence[tuple[str, Array]]) -> Array:
    """Set tiles under their captions, four in a row on white, and the classes' colours below.

    Args:
        tiles: Caption and (h, WIDTH, 3) uint8 RGB picture; at least one.

    Returns:
        (H, COLUMNS * WIDTH, 3) uint8 RGB.
    """
    captioned = [np.concatenate([_line([(caption, None)], WIDTH), tile]) for caption, tile in tiles]
    rows = [_row(captioned[start : start + COLUMNS]) for start in range(0, len(captioned), COLUMNS)]
    classes = [(name, PALETTE[k]) for k, name in enumerate(CLASSES)]
    cells = COLUMNS * WIDTH // SWATCHES
    legend = [_line(classes[start : start + SWATCHES], cells) for start in range(0, len(classes), SWATCHES)]
    return np.concatenate([*rows, *(_row([line]) for line in legend)])


def _row(pictures: Sequence[Array]) -> Array:
    """Put pictures side by side on white, (max h, COLUMNS * WIDTH, 3)."""
    row = np.full((max(len(picture) for picture in pictures), COLUMNS * WIDTH, 3), 255, dtype=np.uint8)
    left = 0
    for picture in pictures:
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1]
    return row


def _line(words: Sequence[tuple[str, Array | None]], width: int) -> Array:
    """Write words into cells of a width, each behind a swatch of its colour if it has one."""
    line = np.full((CAPTION, width * len(words), 3), 255, dtype=np.uint8)
    for place, (word, colour) in enumerate(words):
        left = place * width
        if colour is not None:
            line[3:-3, left + 4 : left + 20] = colour
            left += 22
        cell = line[:, left : (place + 1) * width]
        cv2.putText(cell, word, (2, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return line
