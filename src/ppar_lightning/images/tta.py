"""Test-time augmentation: resized and mirrored copies of an image."""

from dataclasses import dataclass
from itertools import product

Copy = tuple[float, bool]
"""Factor that an image is resized by, and whether it is mirrored."""


@dataclass(frozen=True)
class TTA:
    """Multi-scale and flipped testing. The class probabilities of all copies are averaged.

    Attributes:
        scales: Factors that an image is resized by, at least one, above 0.
        flip: Also segment the mirror image at each scale.

    Raises:
        ValueError: There is no scale, or one that is not above 0.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"tta.scales is {[*self.scales]}: give one or more factors above 0, such as [0.5, 1.0]")

    @property
    def copies(self) -> tuple[Copy, ...]:
        """The copies; empty if they are the image alone."""
        copies = tuple(product(self.scales, (False, True)[: 1 + self.flip]))
        return () if copies == ((1, False),) else copies

    @property
    def title(self) -> str:
        """What follows the protocol beside scores, such as ``, scales 0.5 1 1.5, flipped``; empty without copies."""
        scales = " ".join(f"{scale:g}" for scale in self.scales)
        return f", scales {scales}{', flipped' * self.flip}" if self.copies else ""


ONE_COPY = TTA()
"""No augmentation: each image is segmented as it is."""
