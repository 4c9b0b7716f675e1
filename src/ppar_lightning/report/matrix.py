"""Tables whose cells are coloured by their value."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Cell(NamedTuple):
    """A number as it is read, and how strongly its cell is coloured, in [-1, 1]."""

    text: str
    shade: float


class Matrix(NamedTuple):
    """A table with a caption."""

    caption: str
    columns: Sequence[str]
    rows: list[tuple[str, list[Cell]]]


def matrix(
    caption: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: npt.ArrayLike,
    form: str = ".0f",
    scale: float = 100.0,
) -> Matrix:
    """Colour a matrix.

    Args:
        caption: What it shows.
        rows: R labels.
        columns: C labels.
        values: (R, C); NaN becomes a dash without colour.
        form: Format of a number.
        scale: Value of the strongest colour.
    """
    cells = [[_cell(value, form, scale) for value in row] for row in np.asarray(values, dtype=np.float64)]
    return Matrix(caption, columns, list(zip(rows, cells, strict=True)))


def row_shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Per cent of each row's sum, (R, C); NaN in a row without counts."""
    total = counts.sum(axis=1, keepdims=True).astype(np.float64)
    total[total == 0] = math.nan
    return 100 * counts / total


def _cell(value: float, form: str, scale: float) -> Cell:
    if math.isnan(value):
        return Cell("-", 0.0)
    return Cell(f"{value:{form}}", round(max(-1.0, min(1.0, value / scale)), 3))
