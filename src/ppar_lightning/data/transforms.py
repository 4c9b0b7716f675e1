"""Training augmentation: what happens to a sample between its file and its batch."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.baselines.style_randomisation import style_randomisation
from ppar_lightning.data.dataset import Sample
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.decoding import Array, resize
from ppar_lightning.images.variation import draw_variation

FILL = (124, 116, 104)
"""RGB of padded pixels: ImageNet's mean, zero after the usual normalisation."""

CROP_TRIES = 10

VARIATION = 1  # the random stream of a variation, apart from that of the crop

STEP = 4
"""Every STEP-th row and column of a label is looked at to judge a crop."""


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
        style: probability of style randomisation, a baseline; see `ppar_lightning.baselines.style_randomisation`.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    flip: float = 0.5
    jitter: float = 0.8
    jitter_strength: float = 0.4
    blur: float = 0.5
    style: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is outside its range."""
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"augmentation.scale is {self.scale}; give two factors above 0, the smaller one first")
        for option in ("max_class_share", "flip", "jitter", "blur", "style"):
            if not 0 <= getattr(self, option) <= 1:
                raise ValueError(f"augmentation.{option} is {getattr(self, option)}; give a share in [0, 1]")
        if self.jitter_strength < 0:
            raise ValueError(f"augmentation.jitter_strength is {self.jitter_strength}; give at least 0")


DEFAULT_AUGMENTATION = Augmentation()


class RandomScaleCrop(A.DualTransform):
    """Resize by a random factor and cut a crop out, in one resize of just the pixels that the crop shows.

    Where the resized image is smaller than the crop it lies at a random place in it, the image padded with FILL and the
    label with IGNORE.

    Args:
        crop: (height, width) of the result.
        scale: range of the factor.
        max_class_share: see `Augmentation`.
        focus_pixels: where a call names a `focus`, a train id, of 10 crops the first with more pixels of it than this
            is taken, or else the last; 0: every crop surrounds one of its pixels.
        p: probability, as every transform has one.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """What albumentations validates the arguments against."""

        crop: tuple[int, int]
        scale: tuple[float, float]
        max_class_share: float
        focus_pixels: int

    def __init__(
        self,
        crop: tuple[int, int],
        scale: tuple[float, float],
        max_class_share: float,
        focus_pixels: int = 0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.crop = crop
        self.scale = scale
        self.max_class_share = max_class_share
        self.focus_pixels = focus_pixels

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window of the image, (top, left, height, width), that becomes the crop; it may reach outside."""
        mask, focus = data["mask"], data.get("focus")
        factor = self.random_generator.uniform(*self.scale)
        size = [max(1, round(side / factor)) for side in self.crop]
        coarse = np.ascontiguousarray(mask[::STEP, ::STEP])
        places = np.flatnonzero(mask == focus) if focus is not None and self.focus_pixels == 0 else np.empty(0, int)
        enough = self.focus_pixels * (size[0] * size[1]) / (self.crop[0] * self.crop[1] * STEP**2)
        for _ in range(CROP_TRIES):
            window = self._draw_window(mask.shape, size, places)
            counts = coarse_counts(coarse, window)
            held = self.focus_pixels == 0 or focus is None or counts[focus] > enough
            if held and largest_share(counts) <= self.max_class_share:
                break
        return {"window": window}

    def _draw_window(
        self, shape: tuple[int, ...], size: Sequence[int], places: npt.NDArray[np.integer]
    ) -> tuple[int, int, int, int]:
        """Any window inside the image, or one that surrounds one of the places, flat indices of pixels."""
        limits = [(min(0, room), max(0, room)) for room in (shape[0] - size[0], shape[1] - size[1])]
        if len(places):
            place = divmod(int(self.random_generator.choice(places)), shape[1])
            limits = [(max(a, x - n + 1), min(b, x)) for (a, b), x, n in zip(limits, place, size, strict=True)]
        top, left = (int(self.random_generator.integers(low, high, endpoint=True)) for low, high in limits)
        return top, left, size[0], size[1]

    def apply(self, img: Array, window: tuple[int, int, int, int], **params: Any) -> Array:
        """Cut the image out; down to half size, linear sampling still sees every pixel."""
        return self._cut(img, window, cv2.INTER_LINEAR, FILL)

    def apply_to_mask(self, mask: Array, window: tuple[int, int, int, int], **params: Any) -> Array:
        """Cut the label out, by the nearest pixel."""
        return self._cut(mask, window, cv2.INTER_NEAREST_EXACT, (IGNORE,))

    def _cut(self, array: Array, window: tuple[int, int, int, int], interpolation: int, fill: tuple[int, ...]) -> Array:
        part = _inside(array, *window)
        zooms = self.crop[0] / window[2], self.crop[1] / window[3]
        rows, columns = (max(1, round(side * zoom)) for side, zoom in zip(part.shape[:2], zooms, strict=True))
        part = resize(part, (rows, columns), interpolation)
        if (rows, columns) == self.crop:
            return part
        top, left = (round(max(0, -start) * zoom) for start, zoom in zip(window[:2], zooms, strict=True))
        top, left = min(top, self.crop[0] - rows), min(left, self.crop[1] - columns)  # rounded up twice
        bottom, right = self.crop[0] - rows - top, self.crop[1] - columns - left
        padded = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill)
        return np.asarray(padded, dtype=np.uint8)


def _inside(array: Array, top: int, left: int, height: int, width: int) -> Array:
    return array[max(0, top) : top + height, max(0, left) : left + width]


def coarse_counts(coarse: Array, window: tuple[int, int, int, int]) -> npt.NDArray[np.int64]:
    """Pixels of each value, (256,), that a window shows of every STEP-th row and column of a label."""
    top, left, height, width = window
    rows, columns = (
        slice(max(0, -(-start // STEP)), -(-(start + length) // STEP))
        for start, length in ((top, height), (left, width))
    )
    histogram = cv2.calcHist([coarse[rows, columns]], [0], None, [IGNORE + 1], [0, IGNORE + 1])  # faster than bincount
    return histogram.ravel().astype(np.int64)


def largest_share(counts: npt.NDArray[np.int64]) -> float:
    """Share of the most frequent class among labelled pixels, by (256,) counts; 1 if none is labelled."""
    labelled = counts[:IGNORE]
    return float(labelled.max() / labelled.sum()) if labelled.any() else 1.0


class Augment:
    """The augmentation of a training sample: a pure function of the sample and the numbers that seed it.

    Flip, colours and blur are drawn here and applied on the device, see :mod:`~ppar_lightning.images.variation`.

    Args:
        crop: (height, width) of the result.
        augmentation: how samples are varied.
        focus_pixels: see `RandomScaleCrop`.

    Raises:
        ValueError: the crop is too small for the style.
    """

    def __init__(self, crop: tuple[int, int], augmentation: Augmentation, focus_pixels: int = 0) -> None:
        if augmentation.style > 0 and min(crop) < 2:  # ToGray would take an axis of one pixel away
            raise ValueError(f"data.crop is {crop}; give at least 2 pixels where augmentation.style is above 0")
        self.augmentation = augmentation
        style = [style_randomisation(augmentation.style)] if augmentation.style > 0 else []  # else it takes a number
        self.compose = A.Compose(
            [
                RandomScaleCrop(crop, augmentation.scale, augmentation.max_class_share, focus_pixels),
                *style,
            ]
        )

    def __call__(self, sample: Sample, entropy: tuple[int, ...], focus: int | None = None) -> Sample:
        """Augment a sample.

        Args:
            sample: image (H, W, 3), label (H, W), any size.
            entropy: non-negative integers; equal ones give equal results, whatever was drawn before.
            focus: train id that the crop should show.

        Returns:
            The sample with image (*crop, 3), label (*crop) and the `variation` that it has yet to be given.
        """
        rng = np.random.default_rng(entropy)
        self.compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        varied = self.compose(image=sample["image"], mask=sample["label"], focus=focus)
        how = self.augmentation
        variation = draw_variation(
            varied["image"],
            np.random.default_rng((*entropy, VARIATION)),
            jitter=how.jitter,
            strength=how.jitter_strength,
            blur=how.blur,
            flip=how.flip,
        )
        return {**sample, "image": varied["image"], "label": varied["mask"], "variation": variation}
