"""Which images an epoch draws, in which order, and what their crops should show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

NO_FOCUS = -1
"""In place of a train id, for a draw whose crop may show anything."""

CYCLE, FOCUS = 1, 2  # what a random stream is for


@dataclass(frozen=True)
class Sampling:
    """How training images are chosen.

    - `uniform`: every image once an epoch.
    - `class_uniform`: a share of the draws picks a class, all alike, then an image that holds it, and the crop
      surrounds one of its pixels. After RobustNet, which gives each class exactly its part of an epoch, takes tiles of
      1024 pixels instead of images, and centres of mass instead of pixels.
    - `rare_class`: every draw picks class c with probability softmax((1 - f_c) / temperature), f_c being its share of
      the labelled pixels, then an image with more than `min_pixels` of it; of 10 crops the first is taken that holds
      more than half of that. After DAFormer, which tries 10 crops for this and, for the largest share of one class,
      up to 10 for each of them; here 10 in all are tried for both.

    Classes that no image holds are left out. Within an epoch an image is drawn twice for a class only after every other
    image of that class.

    Attributes:
        kind: the rule.
        share: part of an epoch that `class_uniform` draws by class, in [0, 1].
        temperature: of `rare_class`; the lower, the rarer the classes.
        min_pixels: of `rare_class`, in pixels of the label file; lower it for small images.
    """

    kind: Literal["uniform", "class_uniform", "rare_class"] = "uniform"
    share: float = 0.5
    temperature: float = 0.01
    min_pixels: int = 3000

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.share <= 1 or self.temperature <= 0 or self.min_pixels < 1:
            raise ValueError(
                f"sampling: share {self.share}, temperature {self.temperature}, min_pixels {self.min_pixels}; "
                "give a share in [0, 1], a temperature above 0 and at least 1 pixel"
            )

    @property
    def class_share(self) -> float:
        """Part of an epoch that is drawn by class."""
        return {"uniform": 0.0, "class_uniform": self.share, "rare_class": 1.0}[self.kind]

    @property
    def focus_pixels(self) -> int:
        """Pixels of the wanted class that a crop should exceed; 0: it surrounds one of them."""
        return self.min_pixels // 2 if self.kind == "rare_class" else 0


DEFAULT_SAMPLING = Sampling()


class EpochOrder:
    """The draws of every epoch: a pure function of (seed, epoch).

    An epoch has as many draws as there are images. Without weights all sources are one pool; with weights each has its
    part of every epoch, and class frequencies of its own. Draws that follow no class go through all images of their
    pool before one comes again, over epochs too.

    Args:
        sizes: images of each source.
        seed: seed of the order.
        sampling: how images are chosen.
        weights: expected share of draws of each source, on any scale.
        counts: (sum of sizes, 19) pixels by train id; not needed for `uniform`.

    Raises:
        ValueError: no image holds enough of any class.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seed: int,
        sampling: Sampling = DEFAULT_SAMPLING,
        weights: Sequence[float] | None = None,
        counts: Integers | None = None,
    ) -> None:
        self.total = sum(sizes)
        self.seed = seed
        self.sampling = sampling
        images = np.arange(self.total)
        self.pools = [images] if weights is None else np.split(images, np.cumsum(sizes)[:-1])
        ends = np.cumsum([0, *(weights or [1])])
        self.quotas = np.diff(np.round(ends / ends[-1] * self.total).astype(np.int64))
        if sampling.class_share > 0:
            assert counts is not None
            self.holders = [[pool[holds] for holds in _holds(counts[pool], sampling).T] for pool in self.pools]
            self.chances = [class_chances(counts[pool], sampling) for pool in self.pools]

    def __len__(self) -> int:
        """Draws of an epoch."""
        return self.total

    def draws(self, epoch: int) -> tuple[Integers, Integers]:
        """Make an epoch: (N,) indices into the sources put together, and (N,) train ids to show, or NO_FOCUS."""
        images, classes = [], []
        for number, quota in enumerate(self.quotas):
            by_class = round(self.sampling.class_share * quota)
            images.append(self._cycled(number, epoch, quota - by_class))
            classes.append(np.full(quota - by_class, NO_FOCUS))
            if by_class:
                focused = self._focused(number, epoch, by_class)
                images.append(focused[0])
                classes.append(focused[1])
        order = np.random.default_rng((self.seed, epoch)).permutation(self.total)
        return np.concatenate(images)[order], np.concatenate(classes)[order]

    def _cycled(self, number: int, epoch: int, count: int) -> Integers:
        """The epoch's piece of the pool shuffled over and over; sorted, as the epoch is shuffled after it."""
        pool = self.pools[number]
        first, start = divmod(epoch * count, len(pool))
        cycles = range(first, first + -(-(start + count) // len(pool)))
        shuffled = [np.random.default_rng((self.seed, c, number, 0, CYCLE)).permutation(pool) for c in cycles]
        return np.sort(np.concatenate([pool[:0], *shuffled])[start : start + count])

    def _focused(self, number: int, epoch: int, count: int) -> tuple[Integers, Integers]:
        """Images drawn by class, and the classes."""
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
    """Probability of each class to be drawn: (N, 19) pixels -> (19,), 0 for a class that no image holds.

    Raises:
        ValueError: no image holds enough of any class.
    """
    held = _holds(counts, sampling).any(axis=0)
    if not held.any():
        raise ValueError(
            f"{sampling.kind} sampling: no image holds more than {sampling.min_pixels} pixels of a class; "
            "lower --data.sampling.min_pixels"
        )
    pixels = counts.clip(min=0).sum(axis=0)
    scores = -pixels / pixels.sum() / sampling.temperature if sampling.kind == "rare_class" else np.zeros(len(pixels))
    chances = np.where(held, np.exp(scores - scores[held].max()), 0.0)
    return chances / chances.sum()


def _holds(counts: Integers, sampling: Sampling) -> npt.NDArray[np.bool_]:
    """Which images (rows) can be drawn for which classes (columns)."""
    return counts > (sampling.min_pixels if sampling.kind == "rare_class" else 0)
