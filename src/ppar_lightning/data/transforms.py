"""Training augmentation: what happens to a sample between its file and its batch."""

import random
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.data.classes import IGNORE
from ppar_lightning.data.dataset import Sample
from ppar_lightning.data.decoding import Array, resize

FILL = (124, 116, 104)
"""RGB of padded pixels: ImageNet's mean, zero after the usual normalisation."""

CROP_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied; every probability at 0 and `scale` (1, 1) leave only the random crop.

    Attributes:
        scale: range of the factor that images are resized by before the crop.
        max_class_share: largest share of the crop's labelled pixels that one class should have; of 10 crops, the first
            that keeps to it is taken, or else the last.
        flip: probability of a horizontal flip.
        jitter: probability of a change of colour.
        jitter_strength: largest relative change of brightness, contrast and saturation; the hue turns by at most a
            quarter of it, 1 being the whole circle.
        blur: probability of a Gaussian blur with a deviation between 0.3 and 1.3 pixels.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    flip: float = 0.5
    jitter: float = 0.8
    jitter_strength: float = 0.4
    blur: float = 0.5


DEFAULT_AUGMENTATION = Augmentation()


class RandomScaleCrop(A.DualTransform):
    """Resize by a random factor and cut a crop out, in one resize of just the pixels that the crop shows.

    Where the resized image is smaller than the crop it lies at a random place in it, the image padded with FILL and the
    label with IGNORE.

    Args:
        crop: (height, width) of the result.
        scale: range of the factor.
        max_class_share: see `Augmentation`.
        p: probability, as every transform has one.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """What albumentations validates the arguments against."""

        crop: tuple[int, int]
        scale: tuple[float, float]
        max_class_share: float

    def __init__(
        self, crop: tuple[int, int], scale: tuple[float, float], max_class_share: float, p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        self.crop = crop
        self.scale = scale
        self.max_class_share = max_class_share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window of the image, (top, left, height, width), that becomes the crop; it may reach outside."""
        mask = data["mask"]
        factor = self.random_generator.uniform(*self.scale)
        height, width = (max(1, round(side / factor)) for side in self.crop)
        for _ in range(CROP_TRIES):
            top, left = (
                int(self.random_generator.integers(min(0, room), max(0, room), endpoint=True))
                for room in (mask.shape[0] - height, mask.shape[1] - width)
            )
            if largest_class_share(_inside(mask, top, left, height, width)) <= self.max_class_share:
                break
        return {"window": (top, left, height, width)}

    def apply(self, img: Array, window: tuple[int, int, int, int], **params: Any) -> Array:
        """Cut the image out; down to half size, linear sampling still sees every pixel."""
        return self._cut(img, window, cv2.INTER_LINEAR, FILL)

    def apply_to_mask(self, mask: Array, window: tuple[int, int, int, int], **params: Any) -> Array:
        """Cut the label out, by the nearest pixel."""
        return self._cut(mask, window, cv2.INTER_NEAREST_EXACT, IGNORE)

    def _cut(
        self, array: Array, window: tuple[int, int, int, int], interpolation: int, fill: int | tuple[int, ...]
    ) -> Array:
        part = _inside(array, *window)
        zooms = self.crop[0] / window[2], self.crop[1] / window[3]
        rows, columns = (max(1, round(side * zoom)) for side, zoom in zip(part.shape[:2], zooms, strict=True))
        part = resize(part, (rows, columns), interpolation)
        if (rows, columns) == self.crop:
            return part
        top, left = (round(max(0, -start) * zoom) for start, zoom in zip(window[:2], zooms, strict=True))
        top, left = min(top, self.crop[0] - rows), min(left, self.crop[1] - columns)  # rounded up twice
        canvas = np.full((*self.crop, *array.shape[2:]), fill, dtype=np.uint8)
        canvas[top : top + rows, left : left + columns] = part
        return canvas


def _inside(array: Array, top: int, left: int, height: int, width: int) -> Array:
    return array[max(0, top) : top + height, max(0, left) : left + width]


def largest_class_share(label: npt.NDArray[np.uint8]) -> float:
    """Share of the most frequent class among labelled pixels, from every fourth row and column; 1 if none."""
    counts = np.bincount(label[::4, ::4].ravel(), minlength=IGNORE + 1)[:IGNORE]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


class Augment:
    """The augmentation of a training sample: a pure function of the sample and the numbers that seed it.

    Args:
        crop: (height, width) of the result.
        augmentation: how samples are varied.
    """

    def __init__(self, crop: tuple[int, int], augmentation: Augmentation) -> None:
        strength = augmentation.jitter_strength
        span = (max(0.0, 1 - strength), 1 + strength)
        self.compose = A.Compose(
            [
                RandomScaleCrop(crop, augmentation.scale, augmentation.max_class_share),
                A.HorizontalFlip(p=augmentation.flip),
                A.ColorJitter(span, span, span, (-strength / 4, strength / 4), p=augmentation.jitter),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.3), p=augmentation.blur),
            ]
        )

    def __call__(self, sample: Sample, entropy: tuple[int, ...]) -> Sample:
        """Augment a sample.

        Args:
            sample: image (H, W, 3), label (H, W), any size.
            entropy: non-negative integers; equal ones give equal results, whatever was drawn before.

        Returns:
            The sample with image (*crop, 3) and label (*crop).
        """
        rng = np.random.default_rng(entropy)
        self.compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        varied = self.compose(image=sample["image"], mask=sample["label"])
        return {**sample, "image": varied["image"], "label": varied["mask"]}
