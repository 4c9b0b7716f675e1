"""The things in a street: flat patches, and boxes with windows, wheels and lamps."""

import numpy as np

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.streets.geometry import CIRCLE, Street, disc, facing, grid, polygon, rect, upright
from ppar_lightning.streets.stencils import END_SHADE, SIDE_SHADE, Point, box_faces, paint_box, paint_flat
from ppar_lightning.streets.styles import Material

LABEL = {name: index for index, name in enumerate(CITYSCAPES)}
WHOLE = rect(0, 0, 1, 1)


def building(street: Street, rng: np.random.Generator, a: Point, b: Point, outward: float) -> None:
    """Add a block of flats whose façade runs from a (near) to b (far), with an end wall towards the camera."""
    thing = street.thing(LABEL["building"], b[1])
    height = rng.uniform(5, 17)
    storeys = max(2, int(height / rng.uniform(2.8, 3.6)))
    fill = (rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.65))
    end = (a[0] + outward * rng.uniform(6, 14), a[1])
    for left, right, shade in ((end, a, END_SHADE), (a, b, SIDE_SHADE)):
        patch = upright(left, right, 0, height)
        width = float(np.hypot(right[0] - left[0], right[1] - left[1]))
        columns = max(2, int(width / rng.uniform(2.0, 3.4)))
        windows = grid(columns, storeys, fill, (0.04, 0.03, 0.96, 0.93))
        lit = rng.random(len(windows)) < 0.3
        street.paint(thing, Material.FACADE, patch, WHOLE, shade)
        street.paint(thing, Material.ROOF, patch, rect(0, 0.95, 1, 1), shade)
        for chosen, material in ((~lit, Material.WINDOW), (lit, Material.LIT_WINDOW)):
            if chosen.any():
                street.paint(thing, material, patch, windows[chosen], shade)


def wall(street: Street, rng: np.random.Generator, a: Point, b: Point) -> None:
    """Add a bare wall with a coping, 2.4 to 4 m high."""
    thing = street.thing(LABEL["wall"], b[1])
    patch = upright(a, b, 0, rng.uniform(2.4, 4.0))
    street.paint(thing, Material.WALL, patch, WHOLE, SIDE_SHADE)
    street.paint(thing, Material.ROOF, patch, rect(0, 0.93, 1, 1), SIDE_SHADE)


def fence(street: Street, rng: np.random.Generator, a: Point, b: Point) -> None:
    """Add a slatted fence, 1.6 to 2.6 m high; the gaps between its slats count as fence."""
    thing = street.thing(LABEL["fence"], b[1])
    patch = upright(a, b, 0, rng.uniform(1.6, 2.6))
    slats = max(4, int(abs(b[1] - a[1]) / 0.45))
    street.paint(thing, Material.FOLIAGE, patch, rect(0, 0, 1, 0.95), SIDE_SHADE)
    street.paint(thing, Material.FENCE, patch, grid(slats, 1, (0.6, 1), (0, 0, 1, 1)), SIDE_SHADE)
    street.paint(thing, Material.FENCE, patch, grid(1, 2, (1, 0.25), (0, 0, 1, 1)), SIDE_SHADE)


def hedge(street: Street, rng: np.random.Generator, a: Point, b: Point, height: float) -> None:
    """Add a row of bushes with an uneven top; a high one stands for the edge of a wood."""
    thing = street.thing(LABEL["vegetation"], b[1])
    patch = upright(a, b, 0, height)
    top = np.stack([np.linspace(1, 0, 12), rng.uniform(0.7, 1.0, 12)], axis=-1)
    street.paint(thing, Material.FOLIAGE, patch, np.concatenate([[(0.0, 0.0), (1.0, 0.0)], top])[None], SIDE_SHADE)
    light = disc(0, 0, 0.06, 0.1) + rng.uniform((0.05, 0.3), (0.95, 0.7), (8, 2))[:, None]
    street.paint(thing, Material.FOLIAGE_LIGHT, patch, light, SIDE_SHADE)


def tree(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a trunk below a crown with an uneven outline."""
    thing = street.thing(LABEL["vegetation"], z)
    height = rng.uniform(4.5, 9)
    patch = facing(x, z, height * rng.uniform(0.55, 0.85), 0, height)
    street.paint(thing, Material.TRUNK, patch, rect(0.46, 0, 0.54, 0.5), END_SHADE)
    crown = CIRCLE * rng.uniform(0.34, 0.5, (1, 12, 1)) * (1, 0.66) + (0.5, 0.66)
    street.paint(thing, Material.FOLIAGE, patch, crown, END_SHADE)
    light = CIRCLE * 0.07 + rng.uniform((0.25, 0.45), (0.75, 0.9), (7, 2))[:, None]
    street.paint(thing, Material.FOLIAGE_LIGHT, patch, light, END_SHADE)


def street_lamp(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a mast with an arm over the road."""
    thing, height = street.thing(LABEL["pole"], z), rng.uniform(5, 8)
    mast = facing(x, z, 0.34, 0, height)
    street.paint(thing, Material.METAL, mast, WHOLE, END_SHADE)
    arm = -np.sign(x) * rng.uniform(1.0, 2.0)
    street.paint(thing, Material.METAL, upright((x, z), (x + arm, z), height - 0.2, height), WHOLE, END_SHADE)
    street.paint(thing, Material.STREET_LAMP, facing(x + arm, z, 0.7, height - 0.35, height), WHOLE, END_SHADE)


def traffic_light(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a head with three lamps on a pole, one lamp lit."""
    bottom = rng.uniform(2.4, 3.2)
    pole = street.thing(LABEL["pole"], z)
    street.paint(pole, Material.METAL, facing(x, z, 0.3, 0, bottom + 0.3), WHOLE, END_SHADE)
    thing = street.thing(LABEL["traffic light"], z)
    head = facing(x, z, 0.9, bottom, bottom + 2.1)
    street.paint(thing, Material.HOUSING, head, WHOLE, END_SHADE)
    lit = (Material.LAMP_GREEN, Material.LAMP_AMBER, Material.LAMP_RED)[rng.integers(3)]
    for material, t in ((Material.LAMP_GREEN, 0.19), (Material.LAMP_AMBER, 0.5), (Material.LAMP_RED, 0.81)):
        shown = material if material == lit else Material.GLASS
        street.paint(thing, shown, head, disc(0.5, t, 0.33, 0.14), END_SHADE)


def traffic_sign(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a round, triangular or square plate with a lighter face, on a pole."""
    bottom, size = rng.uniform(1.9, 2.6), rng.uniform(0.85, 1.3)
    pole = street.thing(LABEL["pole"], z)
    street.paint(pole, Material.METAL, facing(x, z, 0.26, 0, bottom + 0.2), WHOLE, END_SHADE)
    thing = street.thing(LABEL["traffic sign"], z)
    plate = facing(x, z, size, bottom, bottom + size)
    triangle = polygon((0.0, 0.05), (1.0, 0.05), (0.5, 1.0))
    outline = (disc(0.5, 0.5, 0.5, 0.5), triangle, rect(0.03, 0.03, 0.97, 0.97))[rng.integers(3)]
    street.paint(thing, Material.SIGN, plate, outline, END_SHADE)
    street.paint(thing, Material.SIGN_FACE, plate, (outline - 0.5) * (0.55, 0.5) + (0.5, 0.46), END_SHADE)


def person(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a walker seen from the front."""
    thing, height, stride = street.thing(LABEL["person"], z), rng.uniform(1.6, 1.9), rng.uniform(0.02, 0.22)
    body = facing(x, z, 0.8, 0, height)
    left, right = 0.5 - stride, 0.5 + stride
    one = polygon((0.34, 0.5), (left - 0.12, 0), (left + 0.1, 0), (0.52, 0.5))
    other = polygon((0.48, 0.5), (right - 0.1, 0), (right + 0.12, 0), (0.66, 0.5))
    street.paint(thing, Material.TROUSERS, body, one, END_SHADE)
    street.paint(thing, Material.TROUSERS, body, other, END_SHADE)
    paint_flat(street, thing, "person", body)


def two_wheeler(street: Street, rng: np.random.Generator, x: float, z: float, motor: bool, ridden: bool) -> None:
    """Add a bicycle or motorcycle at any angle, with a rider if it is ridden."""
    turn = rng.uniform(0.6, 1.1) * rng.choice([-1.0, 1.0])
    kind = "motorcycle" if motor else "bicycle"
    paint_flat(street, street.thing(LABEL[kind], z), kind, upright((x - turn, z), (x + turn, z), 0, 1.2))
    if ridden:
        z, reach = z - 0.01, turn * 0.6
        rider = street.thing(LABEL["rider"], z)
        paint_flat(street, rider, "rider", upright((x - reach, z), (x + reach, z), 0.3, 1.85))


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
