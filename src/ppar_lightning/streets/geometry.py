"""A street as flat patches in space, and the pinhole camera that projects them to label, depth and surface maps."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.streets.styles import Material

FAR = 400.0
"""Depth of the sky, in metres."""

Polygons = npt.NDArray[np.floating]
"""(polygons, corners, 2) in a patch's own coordinates."""


Ground = tuple[float, float] | npt.NDArray[np.floating]
"""(x, z), a point on the ground."""


class Patch(NamedTuple):
    """A plane in space: the point (s, t) lies at origin + s u + t v.

    Axes are in metres: x to the right, y up from the ground, z forward.
    """

    origin: tuple[float, float, float]
    u: tuple[float, float, float]
    v: tuple[float, float, float]


GROUND = Patch((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
"""The plane y = 0, its coordinates (x, z)."""


def upright(a: Ground, b: Ground, bottom: float, top: float) -> Patch:
    """Return a vertical rectangle over the ground points a and b, between two heights."""
    return Patch((a[0], bottom, a[1]), (b[0] - a[0], 0.0, b[1] - a[1]), (0.0, top - bottom, 0.0))


def facing(x: float, z: float, width: float, bottom: float, top: float) -> Patch:
    """Return a vertical rectangle centred on x that faces the camera."""
    return upright((x - width / 2, z), (x + width / 2, z), bottom, top)


@lru_cache(256)
def rect(s0: float, t0: float, s1: float, t1: float) -> Polygons:
    """Return an axis-parallel rectangle, (1, 4, 2)."""
    return np.array([[(s0, t0), (s1, t0), (s1, t1), (s0, t1)]])


def grid(columns: int, rows: int, fill: tuple[float, float], box: tuple[float, float, float, float]) -> Polygons:
    """Return equal rectangles in rows and columns inside a box.

    Args:
        columns: Number of columns.
        rows: Number of rows.
        fill: Shares of the width and height of a cell that its rectangle fills, in [0, 1].
        box: (s0, t0, s1, t1).

    Returns:
        (columns * rows, 4, 2).
    """
    s0, t0, s1, t1 = box
    centres = _cells(columns, rows)
    return (centres + (rect(0, 0, 1, 1) - 0.5) * fill) * ((s1 - s0) / columns, (t1 - t0) / rows) + (s0, t0)


@lru_cache(256)
def _cells(columns: int, rows: int) -> Polygons:
    """Return the centres of unit cells, (columns * rows, 1, 2)."""
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 1, 2) + 0.5


def polygon(*corners: tuple[float, float]) -> Polygons:
    """Return a polygon, (1, corners, 2)."""
    return np.array([corners])


CIRCLE = np.stack([wave(np.linspace(0, 2 * np.pi, 12, endpoint=False)) for wave in (np.cos, np.sin)], axis=-1)[None]
"""Corners of a dodecagon of radius 1, (1, 12, 2)."""


@lru_cache(256)
def disc(s: float, t: float, radius_s: float, radius_t: float) -> Polygons:
    """Return an ellipse as a dodecagon, (1, 12, 2)."""
    return CIRCLE * (radius_s, radius_t) + (s, t)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera looking along z.

    Args:
        size: Height and width of the image, in pixels.
        focal: Focal length as a share of the image's width.
        height: Height above the ground in metres.
        horizon: Row of the horizon as a share of the image's height.
    """

    size: tuple[int, int]
    focal: float
    height: float
    horizon: float

    def rays(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return x/z of every column, (1, W), and y/z of every row, (H, 1), with y measured up from the camera."""
        rows, columns = self.size
        x = (np.arange(columns, dtype=np.float32)[None] + 0.5 - columns / 2) / (self.focal * columns)
        y = (self.horizon * rows - np.arange(rows, dtype=np.float32)[:, None] - 0.5) / (self.focal * columns)
        return x, y

    def project(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Project world points (N, 3) to pixel coordinates (N, 2); pixel centres are at integers."""
        rows, columns = self.size
        scale = self.focal * columns / np.maximum(points[:, 2], 0.3)
        u = columns / 2 + points[:, 0] * scale - 0.5
        v = self.horizon * rows - (points[:, 1] - self.height) * scale - 0.5
        return np.stack([u, v], axis=-1)


Shape = tuple[int, Material, Patch, Polygons, float]
"""Polygons of one material on one patch of one thing: the arguments of `Street.paint`."""


@dataclass
class Street:
    """The things of a scene, in any order. They are painted from the farthest to the nearest.

    A *thing* is a connected object of one class. Its shapes are painted in the order in which they were added.
    """

    camera: Camera
    shapes: list[Shape] = field(default_factory=list)
    things: list[tuple[int, float]] = field(default_factory=list)

    def thing(self, label: int, distance: float) -> int:
        """Start a thing of class `label`, `distance` metres away, and return its number."""
        self.things.append((label, distance))
        return len(self.things) - 1

    def paint(self, thing: int, material: Material, patch: Patch, polygons: Polygons, shade: float = 1.0) -> None:
        """Add polygons of a material to a thing; `shade` in [0, 1] is how much the sun lights the patch."""
        self.shapes.append((thing, material, patch, polygons, shade))


@dataclass(frozen=True)
class Surfaces:
    """The visible surfaces before they have colours: (H, W) maps, and tables of the S shapes that the maps index.

    Args:
        shape: (H, W) intp, index of the visible shape.
        label: (H, W) uint8, train ids.
        depth: (H, W) float32, metres along z, at most FAR.
        material: (S,) intp, the material of each shape.
        thing: (S,) intp, the thing that each shape belongs to.
        shade: (S,) float32 in [0, 1], how much the sun lights each shape.
        horizontal: (S,) bool, true on the ground and on flat tops.
        rays: x/z by column, (1, W), and y/z by row, (H, 1), with y measured up from the camera.
        camera_height: Height of the camera above the ground, in metres.
    """

    shape: npt.NDArray[np.intp]
    label: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    material: npt.NDArray[np.intp]
    thing: npt.NDArray[np.intp]
    shade: npt.NDArray[np.float32]
    horizontal: npt.NDArray[np.bool_]
    rays: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    camera_height: float


def rasterise(street: Street) -> Surfaces:
    """Paint a street's shapes from far to near.

    Returns:
        The maps and tables. Depth is exact on every patch: a point P of the plane through O with normal n satisfies
        n . P = n . O, so 1/z = n . (x/z, y/z, 1) / (n . O).
    """
    order = sorted(street.shapes, key=lambda shape: -street.things[shape[0]][1])
    thing, material, patch, polygons, shade = zip(*order, strict=True)
    patches, things = np.array(patch), np.array(thing)
    corners = [each.shape[0] * each.shape[1] for each in polygons]
    local = np.concatenate([each.reshape(-1, 2) for each in polygons])
    origin, u, v = np.repeat(patches, corners, axis=0).swapaxes(0, 1)
    pixels = street.camera.project(origin + local[:, :1] * u + local[:, 1:] * v)
    outlines = np.split(np.round(pixels * 16).astype(np.int32), np.cumsum(corners)[:-1])  # in sixteenths of a pixel
    canvas = np.zeros(street.camera.size, dtype=np.int32)
    for index, (outline, each) in enumerate(zip(outlines, polygons, strict=True)):
        cv2.fillPoly(canvas, list(outline.reshape(each.shape)), index, lineType=cv2.LINE_8, shift=4)

    rays = street.camera.rays()
    normal = np.cross(patches[:, 1], patches[:, 2])
    offset = ((patches[:, 0] - (0.0, street.camera.height, 0.0)) * normal).sum(axis=-1)
    plane = (normal.T / np.where(np.abs(offset) < 1e-9, 1e-9, offset)).astype(np.float32)
    seen = canvas.astype(np.intp)
    inverse = plane[0].take(seen) * rays[0] + plane[1].take(seen) * rays[1] + plane[2].take(seen)
    label = np.array([label for label, _ in street.things], dtype=np.uint8)[things].take(seen)
    horizontal = np.abs(normal[:, 1]) > np.abs(normal[:, [0, 2]]).max(axis=-1)
    tables = np.array(material), things, np.array(shade, dtype=np.float32), horizontal
    return Surfaces(seen, label, 1 / np.clip(inverse, 1 / FAR, 2.0), *tables, rays, street.camera.height)
