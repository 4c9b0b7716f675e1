"""The window that is moved over large images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A square window that is moved over the image, its logits averaged where it overlaps.

    Attributes:
        size: side in pixels.
        stride: step in pixels.

    Raises:
        ValueError: the stride would leave pixels out.
    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size:
            raise ValueError(f"window size {self.size}, stride {self.stride}: give a stride from 1 to the size")
