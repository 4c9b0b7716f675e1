"""The sliding window for large images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A square window that slides over the image; logits are averaged where windows overlap.

    Attributes:
        size: Side of the window in pixels.
        stride: Step in pixels.

    Raises:
        ValueError: The stride would leave pixels out.
    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size:
            raise ValueError(f"window size {self.size}, stride {self.stride}: give a stride from 1 to the size")
