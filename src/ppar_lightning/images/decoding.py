"""Reading image and label files, and mapping label ids to train ids."""

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from ppar_lightning.images.classes import IGNORE

cv2.utils.logging.setLogLevel(0)  # an error of this package names the file in one line, and OpenCV adds lines to it

Array = npt.NDArray[np.uint8]

PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG."""

RGB = 2
"""Colour type in the header of a PNG."""

UNKNOWN = 254
"""Entry of a lookup table for a value that the data set does not define."""

EXPORT = "put a grey or palette PNG of its ids in its place"
"""Remedy for a label in colours, unless a data set names a better one."""

WRONG_ROOT = "check that root and dataset belong together, or read it as data set folder, with ids of your own"
"""Remedy for a label value outside the table, unless a data set names a better one."""

RESTORE = "restore it from where it came from"
"""Remedy for a damaged file."""

SAVE = {
    "image": "save it as PNG or JPEG of 8 bits",
    "label": "export its ids again as PNG, as other formats may lose ids",
}
"""Remedy for a file of another kind."""


def read_image(path: Path) -> Array:
    """Decode a photograph, upright as its orientation tag says.

    16 bits become 8, grey and CMYK become RGB, and an alpha channel is dropped.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: The file cannot be read, is damaged, is no image, or has more pixels than OpenCV decodes.
    """
    return np.asarray(_decode(path, _read(path), cv2.IMREAD_COLOR_RGB, "image"), dtype=np.uint8)


def is_turned(path: Path) -> bool:
    """Return whether a photograph has an orientation tag that turns or mirrors the stored pixels."""
    with suppress(Exception), Image.open(path) as picture:  # Pillow knows every kind of file that has such a tag
        return picture.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
    return False


def read_label(path: Path, remedy: str = EXPORT) -> npt.NDArray[np.integer]:
    """Decode a PNG of label ids, upright like images; one with a palette gives its indices, not its colours.

    Args:
        path: The file.
        remedy: What the user can do if the file holds colours, for error messages.

    Returns:
        (H, W), the ids as they are stored, whatever the bit depth.

    Raises:
        ValueError: The file cannot be read, is damaged, is no PNG, or is a colour image.
    """
    encoded = _read_png(path)
    try:  # with Pillow, because OpenCV would expand a palette to its colours
        Image.open(BytesIO(encoded.data)).verify()  # decoding alone would not check the checksums
        picture = Image.open(BytesIO(encoded.data))
        ImageOps.exif_transpose(picture, in_place=True)
        label = np.asarray(picture)
    except Exception:  # Pillow raises many kinds of error for a damaged file
        _refuse(path, encoded, "label")
    if picture.mode not in ("1", "L", "I;16", "P"):
        raise ValueError(f"{path}: a colour picture, not a map of ids; {remedy}")
    depth = int(encoded[24])
    spread = picture.mode == "L" and depth < 8  # decoders spread fewer bits over 0-255
    return label // (255 // (2**depth - 1)) if spread else label


def read_red_label(path: Path) -> npt.NDArray[np.integer]:
    """Decode a colour PNG whose red channel, of 8 or 16 bits, holds label ids, upright like images.

    Returns:
        (H, W), the ids as they are stored.

    Raises:
        ValueError: The file cannot be read, is damaged, is no PNG, or is no RGB image.
    """
    # Pillow would keep only the high byte of a 16-bit channel, which is 0 for every id
    encoded = _read_png(path)
    label = _decode(path, encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH, "label")
    if encoded[25] != RGB:
        raise ValueError(f"{path}: not the RGB file with ids in red that was expected; {RESTORE}")
    return np.asarray(label[..., 0])


def _read(path: Path) -> Array:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); {RESTORE}, or allow to read it") from error


def _read_png(path: Path) -> Array:
    """Read a label file, which must be a PNG: other formats may lose ids."""
    encoded = _read(path)
    if encoded[: len(PNG)].tobytes() != PNG:
        _refuse(path, encoded, "label")
    return encoded


def _decode(path: Path, encoded: Array, flags: int, kind: str) -> npt.NDArray[np.integer]:
    """Decode with OpenCV. Unlike imread, imdecode refuses a JPEG that is cut short instead of filling it with grey."""
    with suppress(cv2.error):  # an empty file, or more pixels than OpenCV decodes
        decoded = cv2.imdecode(encoded, flags)
        if decoded is not None:
            return np.asarray(decoded)
    _refuse(path, encoded, kind)


def _refuse(path: Path, encoded: Array, kind: str) -> NoReturn:
    """Say what Pillow knows about a file that cannot be decoded."""
    try:
        with Image.open(BytesIO(encoded.data)) as picture:
            found = f"{picture.format}, mode {picture.mode}"
    except Exception as error:  # Pillow raises many kinds of error for a damaged file
        found = type(error).__name__
    raise ValueError(f"{path}: no {kind} that can be decoded ({found}); {RESTORE}, or {SAVE[kind]}")


def lookup_table(ids: Mapping[int, int]) -> Array:
    """Turn a mapping label id -> train id into a table of 256 entries, UNKNOWN where the mapping has none."""
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    for label_id, train_id in ids.items():
        table[label_id] = train_id
    return table


def to_train_ids(label: npt.NDArray[np.integer], table: Array, path: Path, remedy: str = WRONG_ROOT) -> Array:
    """Map label ids to train ids.

    Args:
        label: (H, W), ids as stored.
        table: (256,), from `lookup_table`.
        path: The label file, for error messages.
        remedy: What the user can do, for error messages.

    Returns:
        (H, W) uint8, train ids or IGNORE.

    Raises:
        ValueError: A value is not in the table.
    """
    if label.dtype != np.uint8 and (label.min() < 0 or label.max() > IGNORE):
        wide = ", ".join(map(str, np.unique(label[(label < 0) | (label > IGNORE)])[:5]))
        raise ValueError(f"{path}: label value {wide} is no id of 0-255; put a label of 8 bits in its place")
    mapped = np.asarray(cv2.LUT(np.ascontiguousarray(label, dtype=np.uint8), table), dtype=np.uint8)
    outside = mapped == UNKNOWN
    if outside.any():
        unknown = ", ".join(map(str, np.unique(label[outside])[:5]))
        known = ", ".join(map(str, np.flatnonzero(table != UNKNOWN)))
        raise ValueError(f"{path}: label value {unknown} is not among this data set's ids {known}; {remedy}")
    return mapped


def resize(array: Array, size: tuple[int, int], interpolation: int) -> Array:
    """Resize an image or a map to (height, width) with an interpolation of OpenCV."""
    return np.asarray(cv2.resize(array, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)
