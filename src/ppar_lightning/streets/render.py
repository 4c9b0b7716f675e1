"""Rendered street scenes: (seed, index) determines the geometry, and the domain determines the look."""

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ppar_lightning.streets.appearance import shade
from ppar_lightning.streets.arrangement import draw_street
from ppar_lightning.streets.geometry import rasterise
from ppar_lightning.streets.styles import STYLES, Style, draw_web_style

SEEDS = {"train": 1, "val": 2}
"""Seed of each split."""

LENGTHS = {"train": 4000, "val": 60}
"""Default number of streets of each split."""

DOMAINS = (*STYLES, "web")
"""Valid names of a style."""


class Scene(NamedTuple):
    """A rendered street.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8 train ids; every pixel has one.
        depth: (H, W) float32, metres along the optical axis, at most 400 (the sky).
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]


def scene_style(seed: int, index: int, style: str) -> Style:
    """Return the style of an image: a named one or, for `web`, the one drawn for (seed, index).

    Raises:
        ValueError: There is no such style.
    """
    if style == "web":
        return draw_web_style(_generator(seed, index, "web style"))
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; choose one of {', '.join(DOMAINS)}")
    return STYLES[style]


def render(seed: int, index: int, style: str | Style, size: tuple[int, int] = (128, 256)) -> Scene:
    """Render street number `index` of a seed.

    Args:
        seed: Seed of the geometry, at least 0. Together with ``index`` it determines where everything stands, in every
            style.
        index: Number of the street, at least 0.
        style: One of DOMAINS, or a `Style`.
        size: Height and width of the image, in pixels.

    Returns:
        The scene. Equal arguments give equal scenes in every process.

    Raises:
        ValueError: There is no such style.
    """
    look = style if isinstance(style, Style) else scene_style(seed, index, style)
    surfaces = rasterise(draw_street(_generator(seed, index, "geometry"), size))
    image = shade(surfaces, look, _generator(seed, index, look.name))
    return Scene(image, surfaces.label, surfaces.depth)


def _generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Return an independent random generator for a purpose, the same in every process."""
    return np.random.default_rng(np.random.SeedSequence((seed, index, zlib.crc32(purpose.encode()))))
