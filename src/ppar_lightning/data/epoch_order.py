"""The images that an epoch draws, their order, and the class that each crop should show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

NO_FOCUS = -1
"""Value in place of a train id if the crop of a draw may show anything."""

CYCLE, FOCUS = 1, 2  # keys of two separate random streams


@dataclass(frozen=True)
class Sampling:
    """Options for choosing training images.

    - `uniform`: every image is drawn once per epoch.
    - `class_uniform`: a share of the draws first picks a class, each with the same probability, then an image that
      contains it, and the crop surrounds one of its pixels. This follows RobustNet, which differs in three ways: each
      class gets exactly its part of an epoch, tiles of 1024 pixels replace images, and centres of mass replace pixels.
    - `rare_class`: every draw picks class c with probability softmax((1 - f_c) / temperature), where f_c is its share
      of the labelled pixels, then an image with more than `min_pixels` of it. Up to 10 crops are drawn, and the first
      with more than half of `min_pixels` is used. This follows DAFormer, which tries 10 crops for this condition and,
      for each of them, up to 10 more to limit the largest share of one class. Here 10 crops serve both conditions.

    Classes that occur in no image are left out. Within an epoch an image is drawn twice for a class only after every
    other image of that class has been drawn.

    Attributes:
        kind: One of these three rules.
        share: Share of an epoch that `class_uniform` draws by class, in [0, 1].
        temperature: Temperature of `rare_class`, above 0; a lower one prefers rarer classes.
        min_pixels: Number of pixels of the class, at the size of the label file, that an image must exceed for
            `rare_class`; at least 1. Lower it for small images.
    """

    kind: Literal["uniform", "class_uniform", "rare_class"] = "uniform"
    share: float = 0.5
    temperature: float = 0.01
    min_pixels: int = 3000

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if not 0 <= self.share <= 1 or self.temperature <= 0 or self.min_pixels < 1:
            given = f"share {self.share}, temperature {self.temperature}, min_pixels {self.min_pixels}"
            raise ValueError(f"sampling: {given}; give a share in [0, 1], a temperature above 0 and at least 1 pixel")

    @property
    def class_share(self) -> float:
        """Share of an epoch that is drawn by class."""
        return {"uniform": 0.0, "class_uniform": self.share, "rare_class": 1.0}[self.kind]

    @property
    def focus_pixels(self) -> int:
        """Number of pixels of the class that the crop should exceed; 0 if it surrounds one of them instead."""
        return self.min_pixels // 2 if self.kind == "rare_class" else 0


DEFAULT_SAMPLING = Sampling()


@dataclass(eq=False)
class EpochOrder:
    """The draws of every epoch: a pure function of (seed, epoch).

    An epoch has as many draws as there are images. Without weights all sources form one pool. With weights each source
    has its share of every epoch, and class frequencies of its own. Draws without a class go through all images of their
    pool before an image is repeated, also across epochs.

    Args:
        sizes: Number of images of each source.
        seed: Seed of the order.
        sampling: How images are chosen.
        weights: Share of the draws of each source, on any scale.
        counts: (sum of sizes, 19) numbers of pixels by train id; not needed for `uniform`.

    Raises:
        ValueError: No image contains enough pixels of any class.
    """

    sizes: Sequence[int]
    seed: int
    sampling: Sampling = DEFAULT_SAMPLING
    weights: Sequence[float] | None = None
    counts: Integers | None = None

    def __post_init__(self) -> None:
        self.total = sum(self.sizes)
        images = np.arange(self.total)
        self.pools = [images] if self.weights is None else np.split(images, np.cumsum(self.sizes)[:-1])
        ends = np.cumsum([0, *(self.weights or [1])])
        self.quotas = np.diff(np.round(ends / ends[-1] * self.total).astype(np.int64))
        if self.sampling.class_share > 0:
            assert self.counts is not None
            counts = [self.counts[pool] for pool in self.pools]
            holds = [_holds(each, self.sampling).T for each in counts]
            self.holders = [[pool[held] for held in each] for pool, each in zip(self.pools, holds, strict=True)]
            self.chances = [class_chances(each, self.sampling) for each in counts]

    def __len__(self) -> int:
        """Number of draws of an epoch."""
        return self.total

    def draws(self, epoch: int) -> tuple[Integers, Integers]:
        """Return an epoch: (N,) indices into the concatenated sources, and (N,) train ids to show, or NO_FOCUS."""
        parts = []
        for number, quota in enumerate(self.quotas):
            by_class = round(self.sampling.class_share * quota)
            parts.append((self._cycled(number, epoch, quota - by_class), np.full(quota - by_class, NO_FOCUS)))
            if by_class:
                parts.append(self._focused(number, epoch, by_class))
        order = np.random.default_rng((self.seed, epoch)).permutation(self.total)
        images, classes = (np.concatenate(part)[order] for part in zip(*parts, strict=True))
        return images, classes

    def _cycled(self, number: int, epoch: int, count: int) -> Integers:
        """Return the next `count` images of the endlessly reshuffled pool, sorted, as `draws` shuffles them again."""
        pool = self.pools[number]
        first, start = divmod(epoch * count, len(pool))
        cycles = range(first, first + -(-(start + count) // len(pool)))
        shuffled = [np.random.default_rng((self.seed, c, number, 0, CYCLE)).permutation(pool) for c in cycles]
        return np.sort(np.concatenate([pool[:0], *shuffled])[start : start + count])

    def _focused(self, number: int, epoch: int, count: int) -> tuple[Integers, Integers]:
        """Return images drawn by class, and their classes."""
        rng = np.random.default_rng((self.seed, epoch, number, 0, FOCUS))
        chances = self.chances[number]
        classes = np.sort(rng.choice(len(chances), count, p=chances))
        images = []
        for k, wanted in zip(*np.unique(classes, return_counts=True), strict=True):
            holders = self.holders[number][k]
            rounds = -(-wanted // len(holders))
            images.append(np.concatenate([rng.permutation(holders) for _ in range(rounds)])[:wanted])
        return np.concatenate(images), classes


def class_chances(counts: Integers, sampling: Sampling) -> npt.NDArray[np.float64]:
    """Return the probability of drawing each class: (N, 19) pixels -> (19,), 0 for a class in no image.

    Raises:
        ValueError: No image contains enough pixels of any class.
    """
    held = _holds(counts, sampling).any(axis=0)
    if not held.any():
        fault = f"no image holds more than {sampling.min_pixels} pixels of a class"
        raise ValueError(f"{sampling.kind} sampling: {fault}; lower --data.sampling.min_pixels")
    pixels = counts.clip(min=0).sum(axis=0)
    scores = -pixels / pixels.sum() / sampling.temperature if sampling.kind == "rare_class" else np.zeros(len(pixels))
    chances = np.where(held, np.exp(scores - scores[held].max()), 0.0)
    return chances / chances.sum()


def _holds(counts: Integers, sampling: Sampling) -> npt.NDArray[np.bool_]:
    """Return which images (rows) can be drawn for which classes (columns)."""
    return counts > (sampling.min_pixels if sampling.kind == "rare_class" else 0)
