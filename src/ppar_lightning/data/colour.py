"""Colour jitter as one affine map of RGB."""

from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.data.decoding import Array

Matrix = npt.NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B in the luma of ITU-R BT.601."""

YIQ: Matrix = np.array([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
"""RGB to luma and the two axes of chroma of NTSC."""


class ColourJitter(A.ImageOnlyTransform):
    """Change brightness, contrast, saturation and hue, in random order.

    Brightness scales RGB, contrast scales it about the image's mean luma, saturation about each pixel's luma, and hue
    turns the chroma. All four are affine, and so is what they make together: the image is gone through once, and
    clipped once. The hue of torchvision's jitter turns in HSV instead, which is not affine.

    Args:
        strength: largest relative change of brightness, contrast and saturation; the hue turns by at most a quarter of
            it, 1 being the whole circle.
        p: probability.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """What albumentations validates the arguments against."""

        strength: float

    def __init__(self, strength: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.strength = strength

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the factors and the order, and put them into one map (3, 4)."""
        factors = self.random_generator.uniform(max(0.0, 1 - self.strength), 1 + self.strength, 3)
        turn = self.random_generator.uniform(-self.strength / 4, self.strength / 4)
        mean = np.array(cv2.mean(data["image"][::4])[:3])
        matrix: Matrix = np.eye(3)
        offset: Matrix = np.zeros(3)
        contrast, *steps = (factors[0] * np.eye(3), factors[1] * np.eye(3), saturate(factors[2]), turn_hue(turn))
        for change in self.random_generator.permutation(4):
            step = (contrast, *steps)[change]
            pivot = LUMA @ (matrix @ mean + offset) if change == 0 else 0.0
            matrix, offset = step @ matrix, step @ (offset - pivot) + pivot
        return {"colours": np.column_stack([matrix, offset])}

    def apply(self, img: Array, colours: Matrix, **params: Any) -> Array:
        """Map the colours, rounded and clipped to a byte."""
        return np.asarray(cv2.transform(img, colours), dtype=np.uint8)


def saturate(factor: float) -> Matrix:
    """The (3, 3) map that scales colours about their luma: 0 makes them grey."""
    return factor * np.eye(3) + (1 - factor) * LUMA


def turn_hue(turn: float) -> Matrix:
    """The (3, 3) map that turns the chroma by a part of the circle and keeps the luma."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    return np.asarray(np.linalg.inv(YIQ) @ np.array([(1, 0, 0), (0, cos, -sin), (0, sin, cos)]) @ YIQ)
