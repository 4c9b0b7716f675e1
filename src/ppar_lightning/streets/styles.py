"""Domains of the procedural streets: each domain is a style, and a style changes only the appearance."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ppar_lightning.streets.geometry import Material

Colours = npt.NDArray[np.floating]
"""(materials, 4 variants, RGB) in [0, 1]."""

RGB = tuple[float, float, float]

GAME_COLOURS: Mapping[Material, str] = {
    Material.SKY: "6aaef2 78b8f6 5ca4ea 86c2fa",
    Material.GRASS: "6fae3a 78b843 66a433 82bf4c",
    Material.ASPHALT: "4b4d54 4b4d54 4b4d54 4b4d54",
    Material.MARKING: "f2f2f2 f2f2f2 f2f2f2 f2f2f2",
    Material.PAVEMENT: "b8b2aa b8b2aa b8b2aa b8b2aa",
    Material.KERB: "d8d4cc d8d4cc d8d4cc d8d4cc",
    Material.RAIL: "2c2e33 2c2e33 2c2e33 2c2e33",
    Material.FACADE: "c9a27e b5654a d8c7a3 8f8a88",
    Material.WINDOW: "3b5a78 466686 2f4a66 50708e",
    Material.LIT_WINDOW: "3b5a78 466686 2f4a66 50708e",
    Material.ROOF: "70463a 5a4a48 7c5040 4c4442",
    Material.WALL: "a08f80 948478 ac9a8a 887a70",
    Material.FENCE: "7a4f2c 86592f 6c4527 8f6538",
    Material.METAL: "6c7278 6c7278 5e646a 7a8086",
    Material.HOUSING: "1c1f1e 1c1f1e 24282a 161818",
    Material.LAMP_RED: "ff2a1c ff2a1c ff2a1c ff2a1c",
    Material.LAMP_AMBER: "ffb01c ffb01c ffb01c ffb01c",
    Material.LAMP_GREEN: "22f07a 22f07a 22f07a 22f07a",
    Material.STREET_LAMP: "dcdccc dcdccc dcdccc dcdccc",
    Material.SIGN: "d8141c 1450c8 d8141c f0c010",
    Material.SIGN_FACE: "fafafa f4f4f4 fafafa fff8d0",
    Material.FOLIAGE: "2f7a2c 377f2a 266b2c 458a30",
    Material.FOLIAGE_LIGHT: "4d9c3a 58a63c 45903a 66b04a",
    Material.TRUNK: "5c4030 5c4030 4e3628 6a4a38",
    Material.SKIN: "e0ac8a c68a62 8a5a3c f0c4a4",
    Material.HAIR: "3a2818 1c1410 7a5428 14100e",
    Material.SHIRT: "c83232 3264c8 e0e0e0 e0a020",
    Material.TROUSERS: "26345c 30302e 6c5a48 1c1c22",
    Material.RIDER_SHIRT: "f07818 20b0c8 d0e030 c020a0",
    Material.HELMET: "f0f0f0 d02020 202020 2060d0",
    Material.CAR_PAINT: "c01c20 2050b0 e8e8ea 26282c",
    Material.TRUCK_PAINT: "1c4a9c c83018 f0f0f0 d89018",
    Material.CARGO: "e4e2dc c8ccd0 d8c8a0 e8e8e8",
    Material.BUS_PAINT: "e8b416 d03c20 e8b416 e0a010",
    Material.TRAIN_PAINT: "e8e8e4 d8dce0 e8e8e4 f0ece0",
    Material.STRIPE: "1a8a50 1a6a9a 1a8a50 127848",
    Material.GLASS: "28384a 304254 22303e 384c5e",
    Material.TYRE: "18181a 18181a 1c1c1e 141416",
    Material.HEADLAMP: "fff8e0 fff8e0 fff8e0 fff8e0",
    Material.TAIL_LAMP: "e01818 e01818 e01818 e01818",
    Material.MOTOR_PAINT: "d02020 2040c0 202020 e07010",
    Material.SPOKES: "9a9ea4 9a9ea4 8a8e94 a8acb2",
    Material.FRAME: "20a0a0 c02030 e0e0e0 303030",
}

CITY_COLOURS: Mapping[Material, str] = {
    **GAME_COLOURS,
    Material.SKY: "e8dcc0 e4d8c4 ece0c8 e0d4bc",
    Material.GRASS: "b09a52 a48e48 bca45c 988644",
    Material.ASPHALT: "a58a74 a58a74 a58a74 a58a74",
    Material.MARKING: "e8c84c e8c84c e8c84c e8c84c",
    Material.PAVEMENT: "8c5848 8c5848 8c5848 8c5848",
    Material.KERB: "5c4038 5c4038 5c4038 5c4038",
    Material.FACADE: "e8d8b8 7fb0a8 e8a0a0 f0f0e8",
    Material.WINDOW: "5a3a2c 6a4432 4c3024 7a543c",
    Material.LIT_WINDOW: "5a3a2c 6a4432 4c3024 7a543c",
    Material.ROOF: "38606c 2c5460 44707c 385058",
    Material.WALL: "5c7a50 6a8458 50704a 78905f",
    Material.FENCE: "d8d8d0 c8ccc8 e4e4dc b8bcb8",
    Material.METAL: "2c5a44 2c5a44 24503c 34644c",
    Material.HOUSING: "d8b020 d8b020 c8a018 e0b828",
    Material.SIGN: "18844c e08018 18844c 205090",
    Material.SIGN_FACE: "f0e050 f0f0f0 f0e050 e8e8e8",
    Material.FOLIAGE: "4a6a62 5a7054 3e5e5a 78703c",
    Material.FOLIAGE_LIGHT: "6c8a7c 7c8c68 587a74 988a4c",
    Material.SHIRT: "70b8b0 d8c8a8 385048 b080b0",
    Material.TROUSERS: "a89070 c8c0b0 485848 806858",
    Material.CAR_PAINT: "58a898 e0c030 a86848 b8b0a0",
    Material.TRUCK_PAINT: "4a8a3c b058a0 4a8a3c 7c5c40",
    Material.CARGO: "6c84a0 a05848 587050 8c8c70",
    Material.BUS_PAINT: "3c78b8 f0f0ec 3c9c8c 3c78b8",
    Material.TRAIN_PAINT: "b83038 d8b840 a82830 b83038",
    Material.STRIPE: "f0e8d8 f0e8d8 402820 f0e8d8",
}


def palette(colours: Mapping[Material, str]) -> Colours:
    """Convert hexadecimal colours, four per material, to an array (materials, 4, 3) in [0, 1]."""
    rows = [[tuple(bytes.fromhex(variant)) for variant in colours[material].split()] for material in Material]
    return np.array(rows, dtype=np.float32) / 255


GAME, CITY = palette(GAME_COLOURS), palette(CITY_COLOURS)


def muted(colours: Colours, amount: float, lift: float = 0.0) -> Colours:
    """Move colours towards their grey by `amount` in [0, 1], and lighten them by `lift`."""
    grey = colours.mean(axis=-1, keepdims=True)
    return np.clip(colours + amount * (grey - colours) + lift, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Style:
    """The appearance of a street.

    Args:
        name: The domain.
        palette: (materials, 4, 3) RGB in [0, 1]; each thing uses one of its material's four variants.
        object_tint: Standard deviation of a thing's colour around its variant.
        texture: Amplitude of grain and blotches on surfaces.
        masonry: Depth of the joints in façades, walls and pavements, in [0, 1].
        sun: Darkening of faces turned away from the sun, in [0, 1].
        light: Daylight, 1 at noon; below 0.5 lamps are lit.
        fog: Extinction coefficient of fog, in 1/m.
        fog_colour: RGB of the air in daylight.
        rain: Streaks per 10 000 pixels.
        wet: Reflectivity of the road, in [0, 1].
        snow: Snow cover of horizontal surfaces, in [0, 1].
        flakes: Flakes per 10 000 pixels.
        tint: RGB gain.
        contrast: Gain around middle grey.
        saturation: Gain around the pixel's grey.
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


STYLES: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style("game", contrast=1.1, saturation=1.15),
        Style("fog", muted(GAME, 0.3), texture=0.12, sun=0.1, fog=0.045, saturation=0.7, blur=0.6, noise=0.015),
        Style("night", muted(GAME, 0.2), texture=0.15, light=0.16, tint=(0.95, 0.95, 1.15), blur=0.5, noise=0.035),
        Style(
            "rain",
            muted(GAME, 0.45, -0.06),
            texture=0.12,
            sun=0.1,
            light=0.72,
            fog=0.014,
            fog_colour=(0.55, 0.58, 0.62),
            rain=55,
            wet=0.85,
            tint=(0.9, 0.97, 1.06),
            blur=0.5,
            noise=0.02,
        ),
        Style(
            "snow",
            muted(GAME, 0.35),
            texture=0.12,
            sun=0.15,
            fog=0.01,
            fog_colour=(0.86, 0.88, 0.92),
            snow=0.9,
            flakes=35,
            tint=(0.97, 1.0, 1.06),
            blur=0.5,
            noise=0.015,
        ),
        Style("city", CITY, 0.1, 0.25, masonry=0.6, sun=0.6, tint=(1.08, 1.0, 0.86), blur=0.4, noise=0.025),
        # The next two are never used to choose anything; they are scored last.
        Style("dusk", muted(GAME, 0.1), texture=0.1, sun=0.7, light=0.48, tint=(1.2, 0.95, 0.8), blur=0.4, noise=0.025),
        Style(
            "dirt",
            muted(GAME, 0.25),
            texture=0.2,
            fog=0.008,
            fog_colour=(0.62, 0.52, 0.4),
            tint=(1.05, 0.97, 0.85),
            contrast=0.6,
            saturation=0.6,
            blur=1.0,
            noise=0.03,
        ),
    )
}
"""The named domains. (`web` is a family of styles; `draw_web_style` draws one for every image.)"""

HELD_OUT: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "fog": {"fog": (0.022, np.inf)},
    "night": {"light": (0.0, 0.45)},
    "rain": {"rain": (25.0, np.inf)},
    "wet": {"wet": (0.5, np.inf)},
    "snow": {"snow": (0.4, np.inf)},
}
"""Unseen style -> field -> (low, high): a box of parameters that no `web` style may enter."""

CITY_RADIUS = 0.12
"""Smallest distance of a `web` palette to CITY's, as root mean square over materials."""


def held_out(style: Style) -> bool:
    """Return whether a style's parameters lie in the box around an unseen style."""
    inside = any(
        all(low <= getattr(style, name) <= high for name, (low, high) in box.items()) for box in HELD_OUT.values()
    )
    distance = np.sqrt(np.square(style.palette.mean(axis=1) - CITY.mean(axis=1)).mean())
    return inside or bool(distance < CITY_RADIUS)


def draw_web_style(rng: np.random.Generator) -> Style:
    """Draw a random style outside the boxes of the unseen styles."""
    while held_out(style := _draw_style(rng)):
        pass
    return style


LAMPS = [Material.LAMP_RED, Material.LAMP_AMBER, Material.LAMP_GREEN, Material.HEADLAMP, Material.TAIL_LAMP]
PLANTS = [Material.GRASS, Material.FOLIAGE, Material.FOLIAGE_LIGHT, Material.TRUNK]
KEPT = [Material.SKY, Material.ASPHALT, Material.SKIN, *PLANTS, *LAMPS]
"""Materials whose colours a `web` style only shifts."""


def _draw_palette(rng: np.random.Generator) -> Colours:
    """Draw a palette: GAME's colours shifted per material, with a third of the painted and built materials replaced."""
    count = len(Material)
    colours = GAME * rng.lognormal(0, 0.3, (count, 1, 1)) * rng.lognormal(0, 0.1, (count, 1, 3))
    colours += rng.normal(0, 0.05, (count, 1, 1))
    foreign = rng.random(count) < 0.35
    foreign[KEPT] = False
    spread = rng.uniform(0.02, 0.25)
    colours[foreign] = rng.uniform(0.05, 0.95, (count, 1, 3))[foreign] + rng.normal(0, spread, (count, 4, 3))[foreign]
    colours[Material.LIT_WINDOW] = colours[Material.WINDOW]
    colours[Material.SKY] += rng.uniform(0, 1) * (rng.uniform(0.55, 1.0, 3) - colours[Material.SKY])
    return muted(np.clip(colours, 0.02, 1).astype(np.float32), rng.uniform(-0.1, 0.6))


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
