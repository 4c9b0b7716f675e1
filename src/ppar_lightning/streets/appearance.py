"""Colouring of the visible surfaces by a style: materials, light, weather and sensor."""

import cv2
import numpy as np
import numpy.typing as npt

from ppar_lightning.streets.geometry import FAR, Surfaces
from ppar_lightning.streets.styles import Material, Style, column

Image = npt.NDArray[np.floating]
"""(H, W, 3) float32 RGB where 1 is white, or one such channel (H, W)."""

TEXELS, TEXELS_PER_METRE = 64, 10
"""Side of a texture in texels, and number of texels per metre."""
GLOW, SNOW, MASONRY, GRAIN = column("glow"), column("snow", 0.06), column("masonry"), column("grain", 1.0)
ROWS, COLUMNS = np.indices((TEXELS, TEXELS))
JOINTS = ((ROWS % 4 == 0) | (COLUMNS % 8 == ROWS // 4 % 2 * 4)).astype(np.float32)
"""(64, 64) running bond: 1 on the joints between bricks of 80 x 40 cm, 0 elsewhere."""


def shade(surfaces: Surfaces, style: Style, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Render the surfaces in a style.

    Args:
        surfaces: The visible surfaces.
        style: The style.
        rng: Random generator of colour variants, textures, streaks, flakes and noise.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = _lit(_wet(_textured(surfaces, style, rng), surfaces, style.wet), surfaces, style)
    if style.fog:
        clear = np.exp(-style.fog * surfaces.depth)[..., None]
        air = np.array(style.fog_colour, dtype=np.float32) * style.light
        image = air + clear * (image - air)
    if style.rain:
        image += (0.3 * style.light + 0.05) * _streaks(image.shape[:2], style.rain, rng)[..., None]
    if style.flakes:
        flakes = _flakes(image.shape[:2], style.flakes, rng)[..., None]
        image += flakes * (style.light - image)
    return _sensed(image, style, rng)


def _textured(surfaces: Surfaces, style: Style, rng: np.random.Generator) -> Image:
    """Return the colour of every pixel before daylight and weather: variant, tint, sun, grain, joints and snow."""
    material, shape = surfaces.material, surfaces.shape
    things = int(surfaces.thing.max()) + 1
    tint = 1 + style.object_tint * rng.standard_normal((things, 3), dtype=np.float32)
    colour = style.palette[material, rng.integers(4, size=things)[surfaces.thing]] * tint[surfaces.thing]
    colour *= (1 - style.sun * (1 - surfaces.shade))[:, None]
    texel, fade = _texels(surfaces)
    grain = _grain(rng).take(texel) * fade
    relief = 1 + (style.texture * GRAIN[material]).take(shape) * grain
    if style.masonry:
        relief -= (style.masonry * MASONRY[material]).take(shape) * JOINTS.take(texel) * fade
    image = colour.take(shape, axis=0) * relief[..., None]
    if style.snow:
        lies = np.where(surfaces.horizontal, np.maximum(SNOW[material], 0.75), SNOW[material]) * style.snow
        cover = np.clip(1.3 * lies.take(shape) * (1 + 0.4 * grain), 0, 1)[..., None]
        image += cover * (np.array([0.93, 0.95, 1.0], dtype=np.float32) - image)
    return image


def _texels(surfaces: Surfaces) -> tuple[npt.NDArray[np.intp], Image]:
    """Return two (H, W) maps: flat texel indices, fixed to the world, and an amplitude that fades with distance."""
    ray_x, ray_y = surfaces.rays
    depth = np.where(surfaces.depth > 0.9 * FAR, np.float32(12), surfaces.depth)
    flat = surfaces.horizontal.take(surfaces.shape)
    across = ray_x * depth + np.where(flat, 0, depth)
    up = np.where(flat, depth, ray_y * depth + surfaces.camera_height)
    row, column = (np.floor(each * TEXELS_PER_METRE).astype(np.intp) % TEXELS for each in (up, across))
    return row * TEXELS + column, 1 / (1 + depth / 30)


def _grain(rng: np.random.Generator) -> Image:
    """Return (64, 64) noise at three scales that tiles without a seam."""
    grain = 0.6 * rng.standard_normal((TEXELS, TEXELS), dtype=np.float32)
    for side in (16, 4):
        coarse = np.pad(rng.standard_normal((side, side), dtype=np.float32), 1, mode="wrap")
        zoom = TEXELS // side
        grain += 0.8 * cv2.resize(coarse, None, fx=zoom, fy=zoom)[zoom:-zoom, zoom:-zoom]
    return grain


def _wet(image: Image, surfaces: Surfaces, wet: float) -> Image:
    """Darken roads and sidewalks, and mirror in them the part of the image above the horizon, unless they are dry."""
    if not wet:
        return image
    rows = image.shape[0]
    horizon = int(np.searchsorted(-surfaces.rays[1][:, 0], 0.0))
    mirrored = cv2.blur(image[np.clip(2 * horizon - np.arange(rows), 0, rows - 1)], (3, 7))
    grazing = 1 / (1 - 4 * np.minimum(surfaces.rays[1], 0))
    mask = (surfaces.horizontal.take(surfaces.shape) & (surfaces.label <= 1)) * (wet * 0.75 * grazing)
    return image + mask.astype(np.float32)[..., None] * (mirrored - image) - (0.1 * wet * (mask > 0))[..., None]


def _lit(image: Image, surfaces: Surfaces, style: Style) -> Image:
    """Apply daylight or, in the dark, headlamps, lit windows and the glow around lamps."""
    dark = 1 - style.light
    if dark <= 0:
        return image
    beam = 0.45 * dark * np.exp(-surfaces.depth / 14)
    glow = image * (dark * GLOW[surfaces.material]).take(surfaces.shape)[..., None]
    warm = (surfaces.material == Material.LIT_WINDOW).take(surfaces.shape)
    glow[warm] = np.array([1.0, 0.85, 0.55], dtype=np.float32) * (0.9 * dark)
    halo = cv2.GaussianBlur(glow, (0, 0), image.shape[0] / 50)
    return image * (style.light + beam)[..., None] + glow + 1.2 * halo


def _streaks(size: tuple[int, ...], density: float, rng: np.random.Generator) -> Image:
    """Return slanted lines of falling rain, (H, W) in [0, 1]."""
    rows, columns = size
    count = int(density * rows * columns / 10_000)
    start = rng.uniform((0, -0.2 * rows), (columns, rows), (count, 2))
    length = rng.uniform(0.05, 0.16, (count, 1)) * rows
    slope = np.array([[rng.normal(0, 0.25), 1.0]])
    lines = np.round(np.stack([start, start + length * slope], axis=1) * 16).astype(np.int32)
    canvas = np.zeros(size, dtype=np.uint8)
    cv2.polylines(canvas, list(lines), False, 255, 1, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def _flakes(size: tuple[int, ...], density: float, rng: np.random.Generator) -> Image:
    """Return blurred dots of falling snow, (H, W) in [0, 1]."""
    rows, columns = size
    count = int(density * rows * columns / 10_000)
    canvas = np.zeros(size, dtype=np.float32)
    canvas[rng.integers(rows, size=count), rng.integers(columns, size=count)] = rng.uniform(2, 7, count)
    return np.minimum(cv2.GaussianBlur(canvas, (0, 0), rows / 180), 0.9)


def _sensed(image: Image, style: Style, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Apply the sensor: tint, saturation, contrast, blur and noise."""
    image = image * np.array(style.tint, dtype=np.float32)
    if style.saturation != 1:
        grey = image.mean(axis=-1, keepdims=True)
        image = grey + style.saturation * (image - grey)
    if style.contrast != 1:
        image = 0.5 + style.contrast * (image - 0.5)
    if style.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), style.blur), dtype=np.float32)
    if style.noise:
        image = image + style.noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)
