"""Feature grids over an image: averages of pixels in cells, maps of cells at the size of the image, labels of cells.

Every mapping is a product with one small matrix for each axis. It is therefore exact for cells of any size, including
fractions of a pixel, and needs no operator that some device lacks: Apple's MPS, for example, has no antialiased resize.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

SIZES = 64
"""Number of matrices that are kept for later steps."""


class Grid(NamedTuple):
    """Equal cells, starting at the image's top left corner; the last may extend past its bottom and right edges."""

    size: tuple[int, int]
    """(h, w): number of cells."""
    cell: tuple[float, float]
    """Height and width of a cell, in pixels."""

    @classmethod
    def over(cls, size: tuple[int, int], covered: tuple[int, int]) -> "Grid":
        """Divide (H, W) pixels into (h, w) cells."""
        return cls(size, (covered[0] / size[0], covered[1] / size[1]))

    def coarser(self, factor: int) -> "Grid":
        """Merge factor x factor cells into one, as average pooling with ``ceil_mode`` does."""
        rows, columns = self.size
        return Grid((-(-rows // factor), -(-columns // factor)), (self.cell[0] * factor, self.cell[1] * factor))

    def pool(self, maps: Tensor) -> Tensor:
        """Average over the area of each cell, where a pixel outside the image counts as 0.

        Args:
            maps: (..., H, W) float.

        Returns:
            (..., h, w).
        """
        axes = zip(self.size, self.cell, maps.shape[-2:], strict=True)
        rows, columns = (overlap(*axis, maps.device, maps.dtype) for axis in axes)
        return rows @ maps @ columns.T

    def spread(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Interpolate bilinearly between the centres of the cells.

        Args:
            maps: (..., h, w) float.
            size: (H, W) of the image.

        Returns:
            (..., H, W).
        """
        axes = zip(size, (1 / cell for cell in self.cell), self.size, strict=True)
        rows, columns = (interpolation(*axis, maps.device, maps.dtype) for axis in axes)
        return rows @ maps @ columns.T

    def look_up(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Give each pixel of an (H, W) image the value of the cell that it lies in: (..., h, w) to (..., H, W)."""
        axes = zip(size, self.cell, strict=True)
        rows, columns = (((torch.arange(pixels) + 0.5) / cell).long() for pixels, cell in axes)
        return maps[..., rows.unsqueeze(1), columns]


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (..., H, W) to (..., *size) bilinearly, with antialiasing where it shrinks."""
    axes = ((to, of / to, of) for to, of in zip(size, image.shape[-2:], strict=True))
    rows, columns = (interpolation(*axis, image.device, image.dtype) for axis in axes)
    return rows @ image @ columns.T


@lru_cache(SIZES)
@torch.inference_mode(False)  # the next training step needs a matrix that an evaluation may have made
def overlap(cells: int, cell: float, pixels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return (cells, pixels): the share of each cell along an axis that each pixel covers.

    Args:
        cells: Number of cells.
        cell: Length of a cell, in pixels.
        pixels: Number of pixels.
        device: Device of the matrix.
        dtype: Its type.
    """
    start = torch.arange(cells, device=device, dtype=dtype).unsqueeze(1) * cell
    pixel = torch.arange(pixels, device=device, dtype=dtype)
    return (torch.minimum(start + cell, pixel + 1) - torch.maximum(start, pixel)).clamp_min(0) / cell


@lru_cache(SIZES)
@torch.inference_mode(False)
def interpolation(outputs: int, step: float, inputs: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return (outputs, inputs): the weights of linear interpolation along an axis.

    If the axis shrinks, the triangle of weights is widened by the step, as in PIL and in torch's antialiased resizing.

    Args:
        outputs: Number of output positions.
        step: Distance between two outputs, in input positions.
        inputs: Number of input positions.
        device: Device of the matrix.
        dtype: Its type.
    """
    centre = (torch.arange(outputs, device=device, dtype=dtype).unsqueeze(1) + 0.5) * step - 0.5
    position = torch.arange(inputs, device=device, dtype=dtype)
    # An enlarged axis repeats the border's value past the outermost centres; a shrunk one cuts the triangle off there.
    centre = centre.clamp(0, inputs - 1) if step < 1 else centre
    weight = (1 - (position - centre).abs() / max(1.0, step)).clamp_min(0)
    return weight / weight.sum(dim=1, keepdim=True)


class GridLabels(NamedTuple):
    """Labels of the n = h * w positions of a feature grid."""

    label: Tensor
    """(B, n) int64: the class with the largest area in the cell; 0 if the position does not count."""
    purity: Tensor
    """(B, n) float32 in [0, 1]: that class's share of the cell."""
    counted: Tensor
    """(B, n) bool: less than half of the cell is ignored, and the purity is at least 0.3."""
    present: Tensor
    """(B, K) bool: classes with at least one labelled pixel in the image."""

    def one_hot(self, num_classes: int) -> Tensor:
        """Return (B, n, K) float32 with a zero row for each position that does not count."""
        classes = torch.arange(num_classes, device=self.label.device)
        return ((self.label.unsqueeze(-1) == classes) & self.counted.unsqueeze(-1)).float()


def grid_labels(label: Tensor, grid: Grid, num_classes: int) -> GridLabels:
    """Average one-hot labels over the cells of a grid: the shares q, their argmax y and the purity m = q_y.

    The ignored share of a cell consists of the pixels labelled IGNORE and of the part that lies outside the image.

    Args:
        label: (B, H, W) train ids, IGNORE included.
        grid: Cells over the image.
        num_classes: K, the number of classes.
    """
    classes = torch.arange(num_classes, device=label.device).view(-1, 1, 1)
    shares = grid.pool((label.unsqueeze(1) == classes).float()).flatten(2).transpose(1, 2)
    purity, winner = shares.max(dim=-1)
    counted = (shares.sum(dim=-1) > 0.5) & (purity >= 0.3)
    return GridLabels(winner * counted, purity, counted, shares.amax(dim=1) > 0)
