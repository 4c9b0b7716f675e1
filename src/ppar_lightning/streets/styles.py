"""The domains of rendered streets: each is a style, which gives the materials (`materials.yaml`) their looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

RGB = tuple[float, float, float]

Colours = npt.NDArray[np.floating]
"""(materials, 4 variants, RGB) in [0, 1]."""

Material = IntEnum(
    "Material",
    "SKY GRASS ASPHALT MARKING PAVEMENT KERB RAIL FACADE WINDOW LIT_WINDOW ROOF WALL FENCE METAL HOUSING "
    "LAMP_RED LAMP_AMBER LAMP_GREEN STREET_LAMP SIGN SIGN_FACE FOLIAGE FOLIAGE_LIGHT TRUNK "
    "SKIN HAIR SHIRT TROUSERS RIDER_SHIRT HELMET "
    "CAR_PAINT TRUCK_PAINT CARGO BUS_PAINT TRAIN_PAINT STRIPE GLASS TYRE HEADLAMP TAIL_LAMP MOTOR_PAINT SPOKES FRAME",
    start=0,
)
"""The materials of shapes; a style gives each material its colours."""

_TABLE = yaml.safe_load((files(__package__) / "materials.yaml").read_text())
_ROWS = [_TABLE[material.name] for material in Material]


def column(name: str, default: float = 0.0) -> npt.NDArray[np.float32]:
    """Return a property of every material, (materials,); materials without it have the default."""
    return np.array([row.get(name, default) for row in _ROWS], dtype=np.float32)


def palette(name: str) -> Colours:
    """Return the colours of a palette by its name, `game` or `city`."""
    rows = [[tuple(bytes.fromhex(variant)) for variant in row.get(name, row["game"]).split()] for row in _ROWS]
    return np.array(rows, dtype=np.float32) / 255


GAME, CITY = palette("game"), palette("city")


def mute(colours: Colours, amount: float, lift: float = 0.0) -> Colours:
    """Move colours towards their grey by `amount` in [0, 1], and lighten them by `lift`."""
    grey = colours.mean(axis=-1, keepdims=True)
    return np.clip(colours + amount * (grey - colours) + lift, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Style:
    """The appearance of a street.

    Args:
        name: The domain.
        palette: (materials, 4, 3) RGB in [0, 1]; each thing uses one of its material's four variants.
        object_tint: Relative standard deviation of a thing's colour around its variant.
        texture: Relative amplitude of grain and blotches on surfaces.
        masonry: Depth of the joints in façades, walls and pavements, in [0, 1].
        sun: Darkening of faces turned away from the sun, in [0, 1].
        light: Daylight, 1 at noon; below 0.5 lamps are lit.
        fog: Extinction coefficient of fog, in 1/m.
        fog_colour: RGB of the fog in daylight, in [0, 1].
        rain: Streaks per 10 000 pixels.
        wet: Reflectivity of the road, in [0, 1].
        snow: Snow cover of horizontal surfaces, in [0, 1].
        flakes: Flakes per 10 000 pixels.
        tint: Gain of each of R, G and B.
        contrast: Gain around middle grey; 1 changes nothing.
        saturation: Gain around the pixel's grey; 1 changes nothing.
        blur: Standard deviation of the blur, in pixels.
        noise: Standard deviation of the sensor's noise, where 1 is white.
    """

    name: str
    palette: Colours = field(default_factory=lambda: GAME, repr=False, compare=False)
    object_tint: float = 0.04
    texture: float = 0.05
    masonry: float = 0.0
    sun: float = 0.4
    light: float = 1.0
    fog: float = 0.0
    fog_colour: RGB = (0.8, 0.82, 0.85)
    rain: float = 0.0
    wet: float = 0.0
    snow: float = 0.0
    flakes: float = 0.0
    tint: RGB = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    blur: float = 0.0
    noise: float = 0.0


def _named_style(name: str, palette: str = "game", muted: float = 0.0, lift: float = 0.0, **look: Any) -> Style:
    """Read a style from its row of the table."""
    look = {key: tuple(value) if isinstance(value, list) else value for key, value in look.items()}
    return Style(name, mute({"game": GAME, "city": CITY}[palette], muted, lift), **look)


_TABLES = yaml.safe_load((files(__package__) / "styles.yaml").read_text())
STYLES: Mapping[str, Style] = {name: _named_style(name, **row) for name, row in _TABLES["styles"].items()}
"""Name of a domain -> its style. (`web` is a family of styles, of which `draw_web_style` draws one for each image.)"""

HELD_OUT: Mapping[str, Mapping[str, tuple[float, float]]] = _TABLES["held_out"]
"""Unseen style -> field -> (low, high): a box of parameters that no `web` style may enter."""


def held_out(style: Style) -> bool:
    """Return whether a style's parameters lie in the box around an unseen style, or its palette is close to CITY's."""
    boxes = (box.items() for box in HELD_OUT.values())
    inside = any(all(low <= getattr(style, name) <= high for name, (low, high) in box) for box in boxes)
    distance = np.sqrt(np.square(style.palette.mean(axis=1) - CITY.mean(axis=1)).mean())
    return inside or bool(distance < 0.12)


def draw_web_style(rng: np.random.Generator) -> Style:
    """Draw a random style outside the boxes of the unseen styles."""
    while held_out(style := _draw_style(rng)):
        pass
    return style


def _draw_palette(rng: np.random.Generator) -> Colours:
    """Draw a palette: GAME's colours shifted per material, with a third of the painted and built materials replaced."""
    count = len(Material)
    colours = GAME * rng.lognormal(0, 0.3, (count, 1, 1)) * rng.lognormal(0, 0.1, (count, 1, 3))
    colours += rng.normal(0, 0.05, (count, 1, 1))
    foreign = (rng.random(count) < 0.35) & (column("kept") == 0)
    spread = rng.uniform(0.02, 0.25)
    colours[foreign] = rng.uniform(0.05, 0.95, (count, 1, 3))[foreign] + rng.normal(0, spread, (count, 4, 3))[foreign]
    colours[Material.LIT_WINDOW] = colours[Material.WINDOW]
    colours[Material.SKY] += rng.uniform(0, 1) * (rng.uniform(0.55, 1.0, 3) - colours[Material.SKY])
    return mute(np.clip(colours, 0.02, 1).astype(np.float32), rng.uniform(-0.1, 0.6))


def _draw_style(rng: np.random.Generator) -> Style:
    """Draw a palette, a weather and a sensor."""

    def often(chance: float, low: float, high: float) -> float:
        return rng.uniform(low, high) if rng.random() < chance else 0.0

    rain, snow = often(0.25, 5, 30), often(0.2, 0.1, 0.45)
    return Style(
        "web",
        _draw_palette(rng),
        object_tint=rng.uniform(0.02, 0.15),
        texture=rng.uniform(0.02, 0.25),
        masonry=often(0.5, 0.1, 0.8),
        sun=rng.uniform(0.0, 0.7),
        light=1 - often(0.35, 0.1, 0.6),
        fog=often(0.4, 0.002, 0.025),
        fog_colour=tuple(rng.uniform(0.5, 0.95) + rng.uniform(-0.08, 0.08, 3)),
        rain=rain,
        wet=often(0.6 if rain else 0.1, 0.1, 0.55),
        snow=snow,
        flakes=often(0.6, 5, 30) if snow else 0.0,
        tint=tuple(rng.uniform(0.82, 1.18, 3)),
        contrast=rng.uniform(0.6, 1.35),
        saturation=rng.uniform(0.3, 1.25),
        blur=often(0.6, 0.3, 1.0),
        noise=often(0.6, 0.01, 0.045),
    )
