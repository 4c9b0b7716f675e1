"""Stencils: figures of fixed shape from the table `stencils.yaml`, painted on flat patches and on faces of boxes."""

from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files

import numpy as np
import yaml

from ppar_lightning.streets.geometry import Patch, Polygons, Street, disc, grid, polygon, rect, upright
from ppar_lightning.streets.styles import Material

Point = tuple[float, float]
Face = tuple[str, Patch, float]
"""Name of a visible side of a box, its patch, and how much the sun lights it."""

SIDE_SHADE, END_SHADE = 0.35, 0.8
"""How much the sun lights a side and an end of a box, in [0, 1]; it lights the top fully."""
SHADES = {"side": SIDE_SHADE, "end": END_SHADE}
OUTLINES: Mapping[str, Callable[..., Polygons]] = {"disc": disc, "rect": rect, "grid": grid, "polygon": polygon}
FACES = {"all": ("rear", "front", "side", "top"), "end": ("rear", "front")}


_TABLE = yaml.safe_load((files(__package__) / "stencils.yaml").read_text())
STENCILS = {
    name: [(where, Material[material], OUTLINES[outline](*numbers)) for where, material, outline, *numbers in rows]
    for name, rows in _TABLE.items()
}
"""Name -> parts in the order in which they are painted: the faces of a box that they are on, material and polygons."""


def paint_flat(street: Street, thing: int, name: str, patch: Patch) -> None:
    """Paint a stencil, given by its name, on one patch."""
    for where, material, polygons in STENCILS[name]:
        street.paint(thing, material, patch, polygons, SHADES[where])


def paint_box(street: Street, thing: int, name: str, centre: Point, size: Point, span: Point, heading: float) -> None:
    """Paint a stencil, given by its name, on the visible faces of a box; see `box_faces` for the arguments."""
    for face, patch, shade in box_faces(street, centre, size, span, heading):
        for where, material, polygons in STENCILS[name]:
            if face in FACES.get(where, (where,)):
                street.paint(thing, material, patch, polygons, shade)


def box_faces(street: Street, centre: Point, size: Point, span: Point, heading: float) -> Iterator[Face]:
    """Yield the visible faces of an upright box.

    Args:
        street: The street, whose camera determines which faces are visible.
        centre: (x, z) of the centre of the footprint, in metres.
        size: Length along the heading and width across it, in metres.
        span: Heights of bottom and top, in metres.
        heading: Direction in radians: 0 points away from the camera, pi/2 to the right.

    Yields:
        The faces. On a side, s runs from rear to front; on an end, s runs across the box; on the top, s runs across the
        box and t forward.
    """
    ahead = np.array([np.sin(heading), np.cos(heading)])
    right = np.array([ahead[1], -ahead[0]])
    middle, along, across = np.array(centre), ahead * size[0] / 2, right * size[1] / 2
    walls = ("rear", -along, across), ("front", along, across), ("side", -across, along), ("side", across, along)
    for name, normal, half in walls:
        face = middle + normal
        if face @ normal < 0:
            shade = END_SHADE if abs(normal[1]) > abs(normal[0]) else SIDE_SHADE
            yield name, upright(face - half, face + half, *span), shade
    if span[1] < street.camera.height:
        corner = middle - along - across
        u, v = 2 * across, 2 * along
        yield "top", Patch((corner[0], span[1], corner[1]), (u[0], 0.0, u[1]), (v[0], 0.0, v[1])), 1.0
