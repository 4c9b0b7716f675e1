"""Training augmentation: the crop of a sample, and the variation that is applied to it later, on the device."""

import random
from dataclasses import dataclass

import numpy as np

from ppar_lightning.data.crops import cut, draw_box
from ppar_lightning.data.dataset import Sample
from ppar_lightning.images.variation import draw_variation


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied. With every probability 0 and `scale` (1, 1) only the random crop remains.

    Attributes:
        scale: Smallest and largest factor that images are resized by before the crop, above 0.
        max_class_share: Largest share of the crop's labelled pixels that one class should have. Up to 10 crops are
            drawn; the first that meets this is used, or else the last.
        flip: Probability of a horizontal flip.
        jitter: Probability of a change of colours.
        jitter_strength: Largest relative change of brightness, contrast and saturation. The hue turns by at most a
            quarter of it, where 1 is the whole circle.
        blur: Probability of a Gaussian blur with a standard deviation between 0.3 and 1.3 pixels.
        style: Probability of style randomisation, a baseline; see `ppar_lightning.baselines.style_randomisation`.

    Raises:
        ValueError: A value is outside its range.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    flip: float = 0.5
    jitter: float = 0.8
    jitter_strength: float = 0.4
    blur: float = 0.5
    style: float = 0.0

    def __post_init__(self) -> None:
        shares = ("max_class_share", "flip", "jitter", "blur", "style")
        wrong = {option: "a share in [0, 1]" for option in shares if not 0 <= getattr(self, option) <= 1}
        if not 0 < self.scale[0] <= self.scale[1]:
            wrong["scale"] = "two factors above 0, the smaller one first"
        if self.jitter_strength < 0:
            wrong["jitter_strength"] = "at least 0"
        for option, good in wrong.items():
            raise ValueError(f"augmentation.{option} is {getattr(self, option)}; give {good}")


DEFAULT_AUGMENTATION = Augmentation()


class Augment:
    """The augmentation of a training sample: a pure function of the sample and of the numbers that seed it.

    Flip, colours and blur are drawn here and applied on the device, see :mod:`~ppar_lightning.images.variation`.

    Args:
        crop: (height, width) of the result.
        augmentation: How samples are varied.
        focus_pixels: See `draw_box`.
    """

    def __init__(self, crop: tuple[int, int], augmentation: Augmentation, focus_pixels: int = 0) -> None:
        self.crop = crop
        self.augmentation = augmentation
        self.focus_pixels = focus_pixels
        self.style = None
        if augmentation.style > 0:
            # Imported here, because albumentations is slow to load.
            from ppar_lightning.baselines.style_randomisation import StyleRandomisation

            self.style = StyleRandomisation(augmentation.style)

    def __call__(self, sample: Sample, entropy: tuple[int, ...], focus: int | None = None) -> Sample:
        """Augment a sample.

        Args:
            sample: Image (H, W, 3) and label (H, W) of any size.
            entropy: Non-negative integers. Equal ones give equal results, whatever was drawn before.
            focus: Train id that the crop should show.

        Returns:
            The sample with image (*crop, 3), label (*crop) and the `variation` that is still to be applied; None if all
            its chances are 0.
        """
        how, rng = self.augmentation, np.random.default_rng(entropy)
        chance = random.Random(int(rng.integers(2**63)))
        box = draw_box(sample["label"], self.crop, how.scale, rng, how.max_class_share, focus, self.focus_pixels)
        image, label = (cut(array, box, self.crop) for array in (sample["image"], sample["label"]))
        if self.style is not None:
            chance.random()  # 0.1.0 drew this number too, so its runs can be repeated
            image = self.style(image, rng, chance)
        rng, chances = np.random.default_rng((*entropy, 1)), (how.jitter, how.blur, how.flip)  # another random stream
        variation = draw_variation(image, rng, chances, how.jitter_strength) if any(chances) else None
        return {**sample, "image": image, "label": label, "variation": variation}
