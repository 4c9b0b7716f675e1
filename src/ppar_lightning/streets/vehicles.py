"""Cars, trucks, buses and trains: boxes with windows, wheels and lamps."""

import numpy as np

from ppar_lightning.streets.geometry import Material, Street, disc, grid, rect
from ppar_lightning.streets.objects import LABEL, WHOLE, Point, box_faces

LAMPS = np.concatenate([rect(0.04, 0.45, 0.26, 0.72), rect(0.74, 0.45, 0.96, 0.72)])


def _box(
    street: Street,
    thing: int,
    paint: Material,
    centre: Point,
    size: tuple[float, float],
    span: Point,
    heading: float,
    side_windows: np.ndarray | None = None,
    end_windows: np.ndarray | None = None,
    lamps: np.ndarray | None = None,
) -> None:
    """Add a painted box; lamps are white in front and red behind."""
    for name, patch, shade in box_faces(street, centre, size, span, heading):
        street.paint(thing, paint, patch, WHOLE, shade)
        windows = side_windows if name == "side" else end_windows
        if name != "top" and windows is not None:
            street.paint(thing, Material.GLASS, patch, windows, shade)
        if name in ("front", "rear") and lamps is not None:
            street.paint(thing, Material.HEADLAMP if name == "front" else Material.TAIL_LAMP, patch, lamps, shade)


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
    _box(street, thing, Material.CAR_PAINT, centre, size, (0.25, waist), heading, lamps=LAMPS)
    _wheels(street, thing, centre, (size[0], size[1] + 0.02), heading, 0.33, (0.2, 0.8))
    cabin = (size[0] * rng.uniform(0.5, 0.68), size[1] * 0.88)
    panes = np.concatenate([rect(0.06, 0.12, 0.47, 0.82), rect(0.53, 0.12, 0.94, 0.82)])
    rear = _shift(centre, heading, -size[0] * rng.uniform(0.03, 0.12))
    _box(street, thing, Material.CAR_PAINT, rear, cabin, (waist, top), heading, panes, rect(0.08, 0.12, 0.92, 0.85))


def truck(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a truck: a windowless cargo box behind a glazed cab."""
    thing = street.thing(LABEL["truck"], centre[1])
    length, width, top = rng.uniform(6, 9), rng.uniform(2.3, 2.6), rng.uniform(3.0, 3.9)
    _wheels(street, thing, centre, (length, width), heading, 0.5, (0.22, 0.86))
    cab = _shift(centre, heading, length / 2 - 1)
    cargo = _shift(centre, heading, -1.1)
    window = rect(0.3, 0.55, 0.85, 0.88)

    def front() -> None:
        _box(
            street,
            thing,
            Material.TRUCK_PAINT,
            cab,
            (2, width),
            (0.5, top * 0.82),
            heading,
            window,
            rect(0.08, 0.5, 0.92, 0.9),
        )

    def back() -> None:
        _box(street, thing, Material.CARGO, cargo, (length - 2.2, width), (0.9, top), heading)
        for name, patch, shade in box_faces(street, cargo, (length - 2.2, width + 0.02), (0.6, 1.0), heading):
            if name == "rear":
                street.paint(
                    thing, Material.TAIL_LAMP, patch, np.concatenate([rect(0, 0, 0.2, 1), rect(0.8, 0, 1, 1)]), shade
                )

    for part in (front, back) if cab[1] > cargo[1] else (back, front):
        part()


def bus(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a bus: a tall box with a band of windows and a coloured stripe."""
    thing = street.thing(LABEL["bus"], centre[1])
    length, width, top = rng.uniform(9, 12), rng.uniform(2.4, 2.6), rng.uniform(2.9, 3.3)
    _wheels(street, thing, centre, (length, width), heading, 0.5, (0.2, 0.8))
    windows = grid(7, 1, (0.86, 1), (0.02, 0.45, 0.98, 0.85))
    lamps = np.concatenate([rect(0.05, 0.06, 0.25, 0.18), rect(0.75, 0.06, 0.95, 0.18)])
    body = (length, width)
    _box(
        street,
        thing,
        Material.BUS_PAINT,
        centre,
        body,
        (0.35, top),
        heading,
        windows,
        rect(0.06, 0.4, 0.94, 0.9),
        lamps,
    )


def train(street: Street, rng: np.random.Generator, centre: Point, heading: float) -> None:
    """Add a tram: long coaches with a band of windows, a stripe below it and a destination board."""
    thing = street.thing(LABEL["train"], centre[1])
    coach, width, top = rng.uniform(9, 12), 2.6, rng.uniform(3.5, 4.0)
    for number in (1, 0) if heading < 1 else (0, 1):
        middle = _shift(centre, heading, (number - 0.5) * coach)
        body = (coach - 0.4, width)
        windows = grid(5, 1, (0.7, 1), (0.03, 0.5, 0.97, 0.82))
        _box(street, thing, Material.TRAIN_PAINT, middle, body, (0.15, top), heading, windows)
        for name, patch, shade in box_faces(street, middle, body, (0.15, top), heading):
            if name == "side":
                street.paint(thing, Material.STRIPE, patch, rect(0, 0.16, 1, 0.38), shade)
            elif name != "top":
                street.paint(thing, Material.STRIPE, patch, rect(0, 0.0, 1, 0.38), shade)
                street.paint(thing, Material.GLASS, patch, rect(0.12, 0.45, 0.88, 0.82), shade)
                street.paint(thing, Material.HEADLAMP, patch, rect(0.42, 0.2, 0.58, 0.3), shade)
