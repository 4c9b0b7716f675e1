"""The random plan of a street: cross-section, course, and positions of its things."""

from dataclasses import dataclass

import numpy as np

from ppar_lightning.streets import objects
from ppar_lightning.streets.geometry import FAR, GROUND, Camera, Polygons, Street, facing, rect
from ppar_lightning.streets.objects import LABEL, WHOLE
from ppar_lightning.streets.stencils import Point
from ppar_lightning.streets.styles import Material

NEAR, END = 2.0, 90.0
"""Range of distances at which things stand, in metres."""

VEHICLES = ((objects.car, 4.7), (objects.truck, 9.0), (objects.bus, 12.0))
"""Vehicles and their largest lengths, in metres."""


@dataclass(frozen=True)
class Plan:
    """The cross-section and course of a street. x is in metres from the camera, positive to the right.

    Args:
        left: (kerb, strip, edge) of the left side: x at which the road, the sidewalk and the terrain strip end.
        right: The same for the right side.
        bend: Curvature in 1/m; the street's axis is at x = bend z^2.
        crossing: z of the near and the far edge of a road that crosses the street, in metres, or None.
        tracks: x of the tram's axis, or None.
    """

    left: tuple[float, float, float]
    right: tuple[float, float, float]
    bend: float
    crossing: Point | None
    tracks: float | None

    def at(self, x: float, z: float) -> Point:
        """Move a point of the straight street along the bend."""
        return x + self.bend * z * z, z

    def heading(self, z: float) -> float:
        """Return the direction of the street at z, in radians."""
        return float(np.arctan(2 * self.bend * z))

    def free(self, z: float, length: float = 0.0) -> bool:
        """Return whether the stretch from z to z + length is clear of the crossing."""
        return self.crossing is None or z > self.crossing[1] or z + length < self.crossing[0]

    def strip(self, x0: float, x1: float, z0: float = 1.0, z1: float = END * 1.5) -> Polygons:
        """Return the ground between two lines along the street, (1, 24, 2)."""
        z = np.exp(np.linspace(np.log(z0), np.log(z1), 12))
        shift = self.bend * z * z
        one, other = np.stack([x0 + shift, z], axis=-1), np.stack([x1 + shift, z], axis=-1)
        return np.concatenate([one, other[::-1]])[None]


def draw_street(rng: np.random.Generator, size: tuple[int, int]) -> Street:
    """Draw a random street scene.

    Args:
        rng: Random generator of all choices.
        size: Height and width of the image, in pixels.
    """
    camera = Camera(size, rng.uniform(0.55, 0.8), rng.uniform(1.25, 2.2), rng.uniform(0.34, 0.5))
    plan = draw_plan(rng)
    street = Street(camera)
    add_ground(street, rng, plan)
    for side in (-1.0, 1.0):
        add_backdrop(street, rng, plan, side)
        add_furniture(street, rng, plan, side)
        add_walkers(street, rng, plan, side)
    add_traffic(street, rng, plan)
    return street


def draw_plan(rng: np.random.Generator) -> Plan:
    """Draw the widths of road, sidewalks and strips, the bend, the crossing and the tracks."""
    width = rng.uniform(3.0, 3.6) * rng.integers(2, 4)
    left, sides = -width * rng.uniform(0.5, 0.7), []
    for side, kerb in ((-1.0, left), (1.0, left + width)):
        walk = kerb + side * rng.uniform(1.8, 4.0)
        sides.append((kerb, walk, walk + side * (rng.uniform(1.5, 5.0) if rng.random() < 0.55 else 0.0)))
    near = rng.uniform(9, 30)
    crossing = (near, near + rng.uniform(6, 9)) if rng.random() < 0.35 else None
    tracks = left + 1.7 if rng.random() < 0.33 else None
    return Plan(sides[0], sides[1], rng.normal(0, 0.0012), crossing, tracks)


def add_ground(street: Street, rng: np.random.Generator, plan: Plan) -> None:
    """Add sky, terrain, sidewalks, road, markings and rails."""
    heavens = facing(0, FAR, 8 * FAR, -FAR, 4 * FAR)
    street.paint(street.thing(LABEL["sky"], 1e4), Material.SKY, heavens, WHOLE)
    street.paint(street.thing(LABEL["terrain"], 9e3), Material.GRASS, GROUND, rect(-FAR, 0.5, FAR, FAR))
    walk = street.thing(LABEL["sidewalk"], 8e3)
    for kerb, edge, _ in (plan.left, plan.right):
        street.paint(walk, Material.PAVEMENT, GROUND, plan.strip(kerb, edge))
        street.paint(walk, Material.KERB, GROUND, plan.strip(kerb, kerb + 0.25 * np.sign(kerb)))
    road = street.thing(LABEL["road"], 7e3)
    street.paint(road, Material.ASPHALT, GROUND, plan.strip(plan.left[0], plan.right[0]))
    if plan.crossing:
        near, far = plan.crossing
        street.paint(walk, Material.PAVEMENT, GROUND, rect(-60, near - 2, 60, far + 2))
        street.paint(road, Material.ASPHALT, GROUND, rect(-60, near, 60, far))
        street.paint(road, Material.ASPHALT, GROUND, plan.strip(plan.left[0], plan.right[0], near - 3, far + 3))
        bars = np.arange(plan.left[0] + 0.5, plan.right[0] - 0.5, 1.1)
        zebra = np.concatenate([rect(x, near - 3, x + 0.5, near - 0.8) for x in bars])
        street.paint(road, Material.MARKING, GROUND, zebra + np.array([plan.bend * near**2, 0.0]))
    middle = (plan.left[0] + plan.right[0]) / 2
    dash, gap = rng.uniform(2, 4), rng.uniform(3, 6)
    for z in np.arange(rng.uniform(2, 5), 60, dash + gap):
        if plan.free(z - 4, dash + 8):
            street.paint(road, Material.MARKING, GROUND, plan.strip(middle - 0.1, middle + 0.1, z, z + dash))
    if plan.tracks is not None:
        for rail in (plan.tracks - 0.72, plan.tracks + 0.72):
            street.paint(road, Material.RAIL, GROUND, plan.strip(rail - 0.07, rail + 0.07))


def add_backdrop(street: Street, rng: np.random.Generator, plan: Plan, side: float) -> None:
    """Add buildings, walls, fences, hedges and gaps along one side, and a background that closes the view."""
    edge = (plan.right if side > 0 else plan.left)[2] + side * 0.3
    urban = rng.dirichlet((1.5, 1.0, 1.0, 0.7, 0.4))
    z = rng.uniform(NEAR, 5)
    while z < END:
        length = rng.uniform(7, 16)
        if not plan.free(z, length):
            z = (plan.crossing or (0, z))[1] + 2
            continue
        kind = rng.choice(5, p=urban)
        far = z + length
        a, b = plan.at(edge, z), plan.at(edge, far)
        back = side * rng.uniform(3, 8)
        if kind in (1, 2, 4) and rng.random() < 0.6:
            behind = plan.at(edge + back, z), plan.at(edge + back, far)
            if rng.random() < 0.5:
                objects.building(street, rng, *behind, side)
            else:
                objects.hedge(street, rng, *behind, rng.uniform(3, 8))
        if kind == 0:
            objects.building(street, rng, a, b, side)
        elif kind == 1:
            objects.wall(street, rng, a, b)
        elif kind == 2:
            objects.fence(street, rng, a, b)
        elif kind == 3:
            objects.hedge(street, rng, a, b, rng.uniform(1.2, 6))
        z = far + rng.choice([0.0, 1.5, 4.0])
    far_edge = side * 200 + 4000 * plan.bend
    objects.hedge(street, rng, (min(0.0, far_edge), 140.0), (max(0.0, far_edge), 140.0), rng.uniform(4, 14))


def _line(rng: np.random.Generator, plan: Plan, start: Point, spacing: Point, stop: float = 45) -> list[float]:
    """Draw the distances at which things stand along a line, clear of the crossing."""
    at, z = [], rng.uniform(*start)
    while z < stop:
        if plan.free(z):
            at.append(z)
        z += rng.uniform(*spacing)
    return at


def add_furniture(street: Street, rng: np.random.Generator, plan: Plan, side: float) -> None:
    """Add lamps, signs, traffic lights and trees to one sidewalk."""
    kerb, walk, edge = plan.right if side > 0 else plan.left
    inner = kerb + 0.5 * side
    if rng.random() < 0.75:
        for z in _line(rng, plan, (4, 14), (9, 20)):
            objects.street_lamp(street, rng, *plan.at(inner, z))
    if rng.random() < 0.7:
        for z in _line(rng, plan, (5, 14), (10, 28)):
            objects.traffic_sign(street, rng, *plan.at(inner + 0.2 * side, z))
    if plan.crossing or rng.random() < 0.4:
        z = plan.crossing[0] - 2.5 if plan.crossing else rng.uniform(7, 22)
        objects.traffic_light(street, rng, *plan.at(inner, z))
        objects.traffic_light(street, rng, *plan.at(inner, z + rng.uniform(9, 14)))
    if rng.random() < 0.5:
        line = (walk + edge) / 2 if abs(edge - walk) > 1 else walk
        for z in _line(rng, plan, (5, 15), (6, 14)):
            objects.tree(street, rng, *plan.at(line, z))


def add_walkers(street: Street, rng: np.random.Generator, plan: Plan, side: float) -> None:
    """Add persons and parked bicycles and motorcycles to one sidewalk."""
    kerb, walk, _ = plan.right if side > 0 else plan.left
    for _ in range(rng.poisson(1.9)):
        z, x = rng.uniform(4, 18), kerb + rng.random() * (walk - kerb)
        for _ in range(rng.integers(1, 4)):
            objects.person(street, rng, *plan.at(x, z))
            x, z = x + rng.uniform(0.5, 0.9), z + rng.uniform(-0.5, 0.5)
    for motor in (False, True):
        if rng.random() < 0.3:
            z = rng.uniform(3.5, 11)
            for number in range(rng.integers(1, 4)):
                place = plan.at(kerb + side * rng.uniform(0.6, 1.4), z + 1.3 * number)
                objects.two_wheeler(street, rng, *place, motor, False)


def add_traffic(street: Street, rng: np.random.Generator, plan: Plan) -> None:
    """Add vehicles and riders in both directions, parked cars, crossing traffic and a tram."""
    left, right = plan.left[0], plan.right[0]
    centre = (left + right) / 2
    for x, turn in (((left + centre) / 2, np.pi), ((centre + right) / 2, 0.0)):
        if plan.tracks is not None and x < 0:
            continue
        z = rng.uniform(5, 22)
        while z < 50:
            lane = x + rng.normal(0, 0.3)
            vehicle, length = VEHICLES[rng.choice(3, p=(0.5, 0.25, 0.25))]
            middle = z + length / 2
            vehicle(street, rng, plan.at(lane, middle), plan.heading(middle) + turn)
            z += length + rng.uniform(4, 18)
    if plan.tracks is not None and rng.random() < 0.85:
        z = rng.uniform(17, 38)
        objects.train(street, rng, plan.at(plan.tracks, z), plan.heading(z) + np.pi)
    for side, kerb in ((-1, left), (1, right)):
        if rng.random() < 0.45 and (side > 0 or plan.tracks is None):
            for z in _line(rng, plan, (5, 20), (5.6, 14)):
                objects.car(street, rng, plan.at(kerb - side * 1.0, z), plan.heading(z) + rng.choice([0, np.pi]))
    if rng.random() < 0.8:
        for _ in range(rng.integers(1, 4)):
            x, z = rng.uniform(max(left, -4), min(right, 4)), rng.uniform(4.5, 12)
            objects.two_wheeler(street, rng, *plan.at(x, z), bool(rng.random() < 0.5), True)
    if plan.crossing and rng.random() < 0.8:
        z = sum(plan.crossing) / 2
        turn = float(rng.choice([-1, 1])) * np.pi / 2
        vehicle, _ = VEHICLES[rng.choice(3, p=(0.5, 0.25, 0.25))]
        vehicle(street, rng, (rng.uniform(-9, 9), z), turn)
