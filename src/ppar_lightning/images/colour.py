"""Colour changes as one affine map of RGB."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.images.decoding import Array

Matrix = npt.NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B in the luma of ITU-R BT.601."""

STEP = 8
"""The mean of an image is taken over every STEP-th row, to save time."""

YIQ: Matrix = np.array([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
"""Maps RGB to luma and the two chroma axes of NTSC."""

GREY: Matrix = np.ones((3, 1)) * LUMA
"""Maps RGB to the grey of the same luma."""

QUARTER: Matrix = np.asarray(np.linalg.inv(YIQ) @ np.array([(0, 0, 0), (0, 0, 1), (0, -1, 0)]) @ YIQ)
"""Maps RGB to its chroma alone, turned by a quarter of the circle."""


def apply_map(image: Array, colours: Matrix) -> Array:
    """Apply a map of `draw_map` to an (H, W, 3) uint8 image; the result is rounded and clipped to uint8."""
    return np.asarray(cv2.transform(image, colours), dtype=np.uint8)


def draw_map(image: Array, strength: float, rng: np.random.Generator) -> Matrix:
    """Draw a change of brightness, contrast, saturation and hue, in random order.

    Brightness scales RGB; contrast scales it around the image's mean luma, saturation around each pixel's luma; hue
    turns the chroma. All four are affine, and so is their combination, so an image is processed and clipped only once.
    (torchvision's jitter turns the hue in HSV instead, which is not affine.)

    Args:
        image: (H, W, 3) uint8 RGB; its mean is taken over every STEP-th row.
        strength: Largest relative change of brightness, contrast and saturation, at least 0. The hue turns by at most
            a quarter of it, where 1 is the whole circle.
        rng: Random generator.

    Returns:
        (3, 4): a matrix and, in the last column, an offset in levels of 0 to 255.
    """
    factors = rng.uniform(max(0.0, 1 - strength), 1 + strength, 3)
    turn = rng.uniform(-strength / 4, strength / 4)
    mean = np.array(cv2.mean(image[::STEP])[:3])
    matrix: Matrix = np.eye(3)
    offset: Matrix = np.zeros(3)
    contrast, *steps = (factors[0] * np.eye(3), factors[1] * np.eye(3), saturate(factors[2]), turn_hue(turn))
    for change in rng.permutation(4):
        step = (contrast, *steps)[change]
        pivot = LUMA @ (matrix @ mean + offset) if change == 0 else 0.0
        matrix, offset = step @ matrix, step @ (offset - pivot) + pivot
    return np.column_stack([matrix, offset])


def saturate(factor: float) -> Matrix:
    """Return the (3, 3) map that scales colours about their luma by a factor; 0 makes them grey."""
    return factor * np.eye(3) + (1 - factor) * GREY


def turn_hue(turn: float) -> Matrix:
    """Return the (3, 3) map that turns the chroma by a part of the circle, in [-1, 1], and keeps the luma."""
    angle = 2 * math.pi * turn
    return GREY + math.cos(angle) * (np.eye(3) - GREY) + math.sin(angle) * QUARTER
