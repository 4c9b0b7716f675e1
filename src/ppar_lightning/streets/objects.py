"""The things in a street, each built from flat patches."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ppar_lightning.images.classes import CLASSES
from ppar_lightning.streets.geometry import (
    CIRCLE,
    Material,
    Patch,
    Polygons,
    Street,
    disc,
    facing,
    grid,
    rect,
    upright,
)

LABEL = {name: index for index, name in enumerate(CLASSES)}
WHOLE = rect(0, 0, 1, 1)
SIDE_SHADE, END_SHADE, TOP_SHADE = 0.35, 0.8, 1.0

Point = tuple[float, float]


class Face(NamedTuple):
    """A side of a box that is visible from the camera."""

    name: str
    patch: Patch
    shade: float


def box_faces(street: Street, centre: Point, size: tuple[float, float], span: Point, heading: float) -> Iterator[Face]:
    """Yield the visible faces of an upright box.

    Args:
        street: The street, whose camera decides which faces are visible.
        centre: (x, z) of the footprint, metres.
        size: Length along the heading and width across it, metres.
        span: Heights of bottom and top, metres.
        heading: Radians, 0 drives away from the camera, pi/2 to the right.

    Yields:
        Sides with s from rear to front, ends with s across, tops with s across and t forward.
    """
    ahead = np.array([np.sin(heading), np.cos(heading)])
    right = np.array([ahead[1], -ahead[0]])
    middle, along, across = np.array(centre), ahead * size[0] / 2, right * size[1] / 2
    for name, normal, half in (
        ("rear", -along, across),
        ("front", along, across),
        ("side", -across, along),
        ("side", across, along),
    ):
        face = middle + normal
        if face @ normal < 0:
            shade = END_SHADE if abs(normal[1]) > abs(normal[0]) else SIDE_SHADE
            a, b = face - half, face + half
            yield Face(name, upright((a[0], a[1]), (b[0], b[1]), *span), shade)
    if span[1] < street.camera.height:
        corner = middle - along - across
        u, v = 2 * across, 2 * along
        top = Patch((corner[0], span[1], corner[1]), (u[0], 0.0, u[1]), (v[0], 0.0, v[1]))
        yield Face("top", top, TOP_SHADE)


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
    bumps = 12
    top = np.stack([np.linspace(1, 0, bumps), rng.uniform(0.7, 1.0, bumps)], axis=-1)
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
    lamps = ((Material.LAMP_GREEN, 0.19), (Material.LAMP_AMBER, 0.5), (Material.LAMP_RED, 0.81))
    lit = rng.integers(3)
    for position, (material, t) in enumerate(lamps):
        shown = material if position == lit else Material.GLASS
        street.paint(thing, shown, head, disc(0.5, t, 0.33, 0.14), END_SHADE)


SIGN_OUTLINES: tuple[Polygons, ...] = (
    disc(0.5, 0.5, 0.5, 0.5),
    np.array([[(0.0, 0.05), (1.0, 0.05), (0.5, 1.0)]]),
    rect(0.03, 0.03, 0.97, 0.97),
)


def traffic_sign(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a round, triangular or square plate with a lighter face, on a pole."""
    bottom, size = rng.uniform(1.9, 2.6), rng.uniform(0.85, 1.3)
    pole = street.thing(LABEL["pole"], z)
    street.paint(pole, Material.METAL, facing(x, z, 0.26, 0, bottom + 0.2), WHOLE, END_SHADE)
    thing = street.thing(LABEL["traffic sign"], z)
    plate = facing(x, z, size, bottom, bottom + size)
    outline = SIGN_OUTLINES[rng.integers(3)]
    street.paint(thing, Material.SIGN, plate, outline, END_SHADE)
    street.paint(thing, Material.SIGN_FACE, plate, (outline - 0.5) * (0.55, 0.5) + (0.5, 0.46), END_SHADE)


def person(street: Street, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a walker seen from the front."""
    thing, height, stride = street.thing(LABEL["person"], z), rng.uniform(1.6, 1.9), rng.uniform(0.02, 0.22)
    body = facing(x, z, 0.8, 0, height)
    legs = np.array(
        [
            [(0.34, 0.5), (0.5 - stride - 0.12, 0), (0.5 - stride + 0.1, 0), (0.52, 0.5)],
            [(0.48, 0.5), (0.5 + stride - 0.1, 0), (0.5 + stride + 0.12, 0), (0.66, 0.5)],
        ]
    )
    street.paint(thing, Material.TROUSERS, body, legs[:1], END_SHADE)
    street.paint(thing, Material.TROUSERS, body, legs[1:], END_SHADE)
    arms = np.array(
        [[(0.3, 0.82), (0.12, 0.45), (0.24, 0.44), (0.4, 0.78)], [(0.7, 0.82), (0.88, 0.45), (0.76, 0.44), (0.6, 0.78)]]
    )
    torso = np.array([[(0.32, 0.46), (0.68, 0.46), (0.72, 0.84), (0.28, 0.84)]])
    for part in (arms, torso):
        street.paint(thing, Material.SHIRT, body, part, END_SHADE)
    street.paint(thing, Material.SKIN, body, disc(0.5, 0.91, 0.13, 0.085), END_SHADE)
    street.paint(thing, Material.HAIR, body, disc(0.5, 0.955, 0.14, 0.05), END_SHADE)


def two_wheeler(street: Street, rng: np.random.Generator, x: float, z: float, motor: bool, ridden: bool) -> None:
    """Add a bicycle or motorcycle at any angle, with a rider if it is ridden."""
    turn = rng.uniform(0.6, 1.1) * rng.choice([-1.0, 1.0])
    thing = street.thing(LABEL["motorcycle" if motor else "bicycle"], z)
    side = upright((x - turn, z), (x + turn, z), 0, 1.2)
    wheels = np.concatenate([disc(0.18, 0.3, 0.18, 0.3), disc(0.82, 0.3, 0.18, 0.3)])
    hubs = np.concatenate([disc(0.18, 0.3, 0.12, 0.2), disc(0.82, 0.3, 0.12, 0.2)])
    street.paint(thing, Material.TYRE, side, wheels, SIDE_SHADE)
    street.paint(thing, Material.METAL if motor else Material.SPOKES, side, hubs * 1.0, SIDE_SHADE)
    if motor:
        frame = np.array([[(0.2, 0.35), (0.8, 0.3), (0.84, 0.85), (0.6, 0.82), (0.5, 0.68), (0.08, 0.75)]])
        street.paint(thing, Material.MOTOR_PAINT, side, frame, END_SHADE)
        street.paint(thing, Material.TYRE, side, rect(0.12, 0.68, 0.52, 0.8), END_SHADE)
        street.paint(thing, Material.HEADLAMP, side, disc(0.86, 0.78, 0.06, 0.09), END_SHADE)
    else:
        frame = np.array([[(0.16, 0.24), (0.5, 0.2), (0.78, 0.72), (0.76, 0.82), (0.36, 0.78), (0.3, 0.6)]])
        bars = np.concatenate([rect(0.68, 0.82, 0.86, 0.92), rect(0.28, 0.78, 0.46, 0.88)])
        street.paint(thing, Material.FRAME, side, frame, END_SHADE)
        street.paint(thing, Material.FRAME, side, bars, END_SHADE)
    if ridden:
        _rider(street, x, z - 0.01, turn)


def _rider(street: Street, x: float, z: float, turn: float) -> None:
    """Add a rider with a helmet in the saddle, leaning towards the handlebar."""
    thing = street.thing(LABEL["rider"], z)
    body = upright((x - turn * 0.6, z), (x + turn * 0.6, z), 0.3, 1.85)
    leg = np.array([[(0.3, 0.36), (0.52, 0.5), (0.72, 0.36), (0.62, 0.05), (0.5, 0.05), (0.54, 0.3)]])
    torso = np.array([[(0.2, 0.36), (0.5, 0.36), (0.66, 0.74), (0.9, 0.52), (0.92, 0.6), (0.68, 0.84), (0.42, 0.82)]])
    street.paint(thing, Material.TROUSERS, body, leg, END_SHADE)
    street.paint(thing, Material.RIDER_SHIRT, body, torso, END_SHADE)
    street.paint(thing, Material.SKIN, body, disc(0.63, 0.88, 0.1, 0.08), END_SHADE)
    street.paint(thing, Material.HELMET, body, disc(0.6, 0.93, 0.14, 0.075), END_SHADE)
