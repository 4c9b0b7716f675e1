"""Cars, trucks, buses and trains: boxes with windows, wheels and lamps."""

import numpy as np

from ppar_lightning.streets.geometry import Street, disc, rect
from ppar_lightning.streets.materials import Material
from ppar_lightning.streets.objects import LABEL
from ppar_lightning.streets.stencils import Point, box_faces, paint_box


def _wheels(
    street: Street, thing: int, centre: Point, size: tuple[float, float], heading: float, radius: float, axles: Point
) -> None:
    """Add discs on the visible side and treads below the ends. They must be painted before the body."""
    along = radius / size[0]
    for name, patch, shade in box_faces(street, centre, size, (0, 2 * radius), heading):
        if name == "side":
            discs = np.concatenate([disc(axle, 0.5, along, 0.5) for axle in axles])
            street.paint(thing, Material.TYRE, patch, discs, shade)
        elif name in ("front", "rear"):
            street.paint(thing, Material.TYRE, patch, rect(0.02, 0, 0.98, 1), 0.0)


def _shift(centre: Point, heading: float, distance: float) -> Point:
    """Return the point `distance` metres ahead of the centre."""
    return centre[0] + float(np.sin(heading)) * distance, centre[1] + float(np.cos(heading)) * distance


def car(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a saloon, estate or small van: a body with a glazed cabin on top."""
    thing = street.thing(LABEL["car"], centre[1])
    size, waist, top = (rng.uniform(3.8, 4.7), rng.uniform(1.7, 1.95)), rng.uniform(0.85, 1.0), rng.uniform(1.4, 1.75)
    paint_box(street, thing, "car body", centre, size, (0.25, waist), heading)
    _wheels(street, thing, centre, (size[0], size[1] + 0.02), heading, 0.33, (0.2, 0.8))
    cabin = (size[0] * rng.uniform(0.5, 0.68), size[1] * 0.88)
    rear = _shift(centre, heading, -size[0] * rng.uniform(0.03, 0.12))
    paint_box(street, thing, "car cabin", rear, cabin, (waist, top), heading)


def truck(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a truck: a windowless cargo box behind a glazed cab."""
    thing = street.thing(LABEL["truck"], centre[1])
    length, width, top = rng.uniform(6, 9), rng.uniform(2.3, 2.6), rng.uniform(3.0, 3.9)
    _wheels(street, thing, centre, (length, width), heading, 0.5, (0.22, 0.86))
    cab, cargo = _shift(centre, heading, length / 2 - 1), _shift(centre, heading, -1.1)
    parts = (
        ("truck cargo", cargo, (length - 2.2, width), (0.9, top)),
        ("truck lamps", cargo, (length - 2.2, width + 0.02), (0.6, 1.0)),
        ("truck cab", cab, (2, width), (0.5, top * 0.82)),
    )
    for stencil, middle, size, span in sorted(parts, key=lambda part: -part[1][1]):
        paint_box(street, thing, stencil, middle, size, span, heading)


def bus(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a bus: a tall box with a band of windows."""
    thing = street.thing(LABEL["bus"], centre[1])
    length, width, top = rng.uniform(9, 12), rng.uniform(2.4, 2.6), rng.uniform(2.9, 3.3)
    _wheels(street, thing, centre, (length, width), heading, 0.5, (0.2, 0.8))
    paint_box(street, thing, "bus", centre, (length, width), (0.35, top), heading)


def train(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a tram: long coaches with a band of windows, a stripe below it and a destination board."""
    thing = street.thing(LABEL["train"], centre[1])
    coach, width, top = rng.uniform(9, 12), 2.6, rng.uniform(3.5, 4.0)
    for number in (1, 0) if heading < 1 else (0, 1):
        middle = _shift(centre, heading, (number - 0.5) * coach)
        for stencil in ("coach", "coach trim"):
            paint_box(street, thing, stencil, middle, (coach - 0.4, width), (0.15, top), heading)
