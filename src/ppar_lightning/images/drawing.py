"""Drawing: label maps in colour, overlays, and sheets of pictures under captions.

A picture is an (H, W, 3) uint8 RGB array. Labels and predictions are drawn in the colours of their classes, ignored
pixels black.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import IGNORE, ClassList
from ppar_lightning.images.decoding import resize

Picture = npt.NDArray[np.uint8]

FONT = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 12)
"""Font of captions, which has letters of most alphabets."""
GAP = 4
"""Number of white pixels between two pictures of a grid."""
LINE = 18
"""Height of a line of text in pixels."""
TILE = 320
"""Width of a picture on a sheet, in pixels."""
COLUMNS = 4
"""Number of pictures in a row of a sheet."""
SWATCHES = 8
"""Number of classes in a row of the legend."""
OPTIONS = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 80], ".png": [cv2.IMWRITE_PNG_COMPRESSION, 6]}
"""Encoder options of each file format."""


def fit(picture: Picture, width: int, sharp: bool = False) -> Picture:
    """Resize a picture, or an (H, W) map, to a width and keep its aspect ratio.

    Args:
        picture: (H, W, 3) or (H, W) uint8.
        width: Width of the result in pixels.
        sharp: Take the nearest pixel, as maps of class ids or class colours need; by default pixels are averaged.
    """
    size = (max(1, round(width * picture.shape[0] / picture.shape[1])), width)
    return resize(np.ascontiguousarray(picture), size, cv2.INTER_NEAREST_EXACT if sharp else cv2.INTER_AREA)


def overlay(image: Picture, label: npt.NDArray[np.integer], classes: ClassList, opacity: float = 0.5) -> Picture:
    """Draw a label over its image.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) train ids; IGNORE leaves the image as it is.
        classes: The classes, for their colours.
        opacity: Share of the label's colour in the mixture, in [0, 1].
    """
    mixed = cv2.addWeighted(np.ascontiguousarray(image), 1 - opacity, classes.colourise(label), opacity, 0)
    return np.where(label[..., None] == IGNORE, image, mixed).astype(np.uint8)


def join(pictures: Sequence[Picture], axis: int, gap: int = 0) -> Picture:
    """Put pictures in a column (axis 0) or in a row (axis 1), with ``gap`` white pixels after each."""
    across, padded = max(picture.shape[1 - axis] for picture in pictures), []
    for picture in pictures:
        added = [(0, gap), (0, across - picture.shape[1 - axis])]
        padded.append(np.pad(picture, [*(added[::-1] if axis else added), (0, 0)], constant_values=255))
    return np.concatenate(padded, axis=axis)


def text(words: str, width: int, colour: tuple[int, int, int] | None = None) -> Picture:
    """Write words on white, (LINE, width, 3), after a swatch of ``colour`` if there is one."""
    line = Image.new("RGB", (width, LINE), "white")
    drawing = ImageDraw.Draw(line)
    if colour is not None:
        drawing.rectangle((4, 3, 19, LINE - 4), fill=colour)
    drawing.text((2 if colour is None else 24, 1), words, "black", FONT)
    return np.asarray(line)


def triple(
    image: Picture, label: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], classes: ClassList, width: int
) -> Picture:
    """Put image, label and prediction side by side, each ``width`` pixels wide; ignored pixels are black in both maps.

    Args:
        image: (3, H, W) uint8 RGB.
        label: (H, W) train ids.
        prediction: (H, W) train ids.
        classes: The classes, for their colours.
        width: Width of each of the three in pixels.
    """
    shown = np.where(label == IGNORE, IGNORE, prediction)
    maps = [fit(classes.colourise(each), width, sharp=True) for each in (label, shown)]
    return join([fit(image.transpose(1, 2, 0), width), *maps], axis=1, gap=GAP)


def grid(rows: Mapping[str, Sequence[Picture]]) -> Picture:
    """Draw one row of triples for each domain, under the domain's name."""
    bands = {domain: join(pictures, axis=1, gap=2 * GAP) for domain, pictures in rows.items()}
    captions = {domain: text(f"{domain}: image, label, prediction", band.shape[1]) for domain, band in bands.items()}
    return join([join([captions[domain], band], axis=0) for domain, band in bands.items()], axis=0, gap=GAP)


def sheet(tiles: Sequence[tuple[str, Picture]], classes: ClassList) -> Picture:
    """Draw pictures under their captions, COLUMNS in a row, and the colours of the classes below.

    Args:
        tiles: Caption and (h, TILE, 3) picture; at least one.
        classes: The classes of the legend.

    Returns:
        (H, COLUMNS * TILE, 3) uint8 RGB.
    """
    captioned = [join([text(caption, TILE), picture], axis=0) for caption, picture in tiles]
    named = zip(classes, classes.colours, strict=True)
    swatches = [text(name, COLUMNS * TILE // SWATCHES, colour) for name, colour in named]
    rows = [captioned[start : start + COLUMNS] for start in range(0, len(captioned), COLUMNS)]
    rows += [swatches[start : start + SWATCHES] for start in range(0, len(swatches), SWATCHES)]
    return join([join(row, axis=1) for row in rows], axis=0)


def encode(picture: Picture, suffix: str) -> bytes:
    """Encode a picture, or an (H, W) grey one, as ``.jpg`` or ``.png``."""
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    _, data = cv2.imencode(suffix, np.ascontiguousarray(bgr), OPTIONS[suffix])
    return data.tobytes()


def data_uri(picture: Picture, sharp: bool = False) -> str:
    """Encode a picture, TILE pixels wide, as the source of an HTML image; ``sharp`` suits maps of a few colours."""
    kind, suffix = ("png", ".png") if sharp else ("jpeg", ".jpg")
    return f"data:image/{kind};base64,{base64.b64encode(encode(fit(picture, TILE, sharp), suffix)).decode()}"


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture as JPEG or PNG, by its suffix, whole or not at all, and create its folder.

    Raises:
        OSError: The file cannot be written.
    """
    write_whole(path, encode(picture, path.suffix))
