"""ProceduralStreets: rendered on demand, 128x256 by default; each style is a domain."""

from collections.abc import Hashable
from pathlib import Path

from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.images.decoding import Array
from ppar_lightning.streets.render import LENGTHS, SEEDS, render


class ProceduralStreets(SegmentationDataset):
    """Streets of one style. `train` and `val` hold different streets; all styles show the same streets.

    Args:
        root: Must be None, as there is no folder.
        split: `train` or `val`.
        domain: Name of the domain, which its samples carry.
        style: Name of a style, see `ppar_lightning.streets.render`.
        length: Number of streets, at least 1; by default that of the split.
        size: Height and width of the images, in pixels.
    """

    rendered = True

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        style: str,
        length: int | None = None,
        size: tuple[int, int] = (128, 256),
    ) -> None:
        super().__init__(split, domain)
        if root is not None:
            raise ValueError(f"procedural streets are rendered and read no folder; leave root out (it is {root})")
        if split not in SEEDS:
            raise ValueError(f"procedural streets have no split {split!r}; choose one of {', '.join(SEEDS)}")
        self.style = style
        self.length = LENGTHS[split] if length is None else length
        self.size = (size[0], size[1])
        if min(self.length, *self.size) < 1:
            raise ValueError(f"length is {self.length} and size {self.size}; give at least 1 street and 1 pixel a side")

    def __len__(self) -> int:
        """Number of streets."""
        return self.length

    def image_key(self, index: int) -> Hashable:
        """Return style, split and number."""
        return self.style, self.name(index)

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Render a street."""
        if not 0 <= index < self.length:
            raise IndexError(f"there is no street {index}; give 0 to {self.length - 1}")
        scene = render(SEEDS[self.split], index, self.style, self.size)
        return scene.image, scene.label, f"{self.split}/{index:05d}"
