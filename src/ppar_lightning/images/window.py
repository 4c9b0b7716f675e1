"""The sliding window for large images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A square window that slides over the image; logits are averaged where windows overlap.

    Attributes:
        size: Side of the window in pixels, at least 1.
        stride: Distance between neighbouring windows in pixels, from 1 to the size.

    Raises:
        ValueError: The stride is below 1, or above the size, which would leave pixels out.
    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size:
            raise ValueError(f"window size {self.size}, stride {self.stride}: give a stride from 1 to the size")
