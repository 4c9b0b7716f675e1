"""Image and label files into arrays."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ppar_lightning.images.classes import CLASSES, IGNORE

Array = npt.NDArray[np.uint8]

GREY_PNG = bytes([8, 0])
"""Bit depth and colour type in the header of a PNG whose pixels are bytes."""

LARGEST = 2**26
"""Pixels of the largest picture that is decoded, 8192 x 8192; a small file may claim any number."""

UNKNOWN = 254
"""Entry of a lookup table for a value that the data set does not define."""

WRONG_FOLDER = "check that root and dataset belong together"
"""Remedy for such a value, unless a data set knows better."""


def read_image(path: Path, upright: bool = False) -> Array:
    """Decode a photograph.

    16 bits become 8, grey and CMYK become RGB, and an alpha channel is dropped.

    Args:
        path: the file.
        upright: turn it as its orientation tag says; else the tag is left alone, because label files have none.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the file is gone, empty, cut short, no image or far too large a one.
    """
    encoded = _read(path)
    _open(path, encoded, "image")
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    image = _decode(path, encoded, flags, "image")
    return np.asarray(image, dtype=np.uint8)


def read_label(path: Path) -> npt.NDArray[np.integer]:
    """Decode a map of label ids; a palette image gives its indices, not its colours.

    Returns:
        (H, W), the ids as they are stored.

    Raises:
        ValueError: the file is gone, empty, cut short, no PNG, a colour image or far too large a one.
    """
    encoded = _read(path)
    header = _open(path, encoded, "label")
    if encoded[24:26].tobytes() == GREY_PNG:
        label = _decode(path, encoded, cv2.IMREAD_UNCHANGED, "label")
    else:  # OpenCV would expand a palette to its colours
        try:
            header.verify()  # decoding alone would not look at the checksums
            label = np.asarray(_open(path, encoded, "label"))
        except Exception as error:  # Pillow has no error of its own for each fault of a file
            raise ValueError(f"{path}: damaged label file ({error}); restore it from where it came from") from error
    if label.ndim != 2:
        raise ValueError(f"{path}: a colour picture, not a map of ids; point root at the folder of the id maps")
    return label


def read_red_label(path: Path) -> npt.NDArray[np.integer]:
    """Decode a map of label ids that is the red channel of a colour PNG, 16-bit ones included.

    Returns:
        (H, W), the ids as they are stored.

    Raises:
        ValueError: the file is gone, empty, cut short, no PNG, no colour image or far too large a one.
    """
    encoded = _read(path)
    _open(path, encoded, "label")
    # Pillow would keep the high byte of a 16-bit channel alone, which is 0 for every id
    label = _decode(path, encoded, cv2.IMREAD_UNCHANGED, "label")
    if label.ndim != 3 or label.shape[2] != 3:
        raise ValueError(
            f"{path}: not the RGB file with ids in red that was expected; restore it from where it came from"
        )
    return np.asarray(label[..., -1])  # OpenCV's order is BGR


def _read(path: Path) -> Array:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); restore it from where it came from") from error


def _open(path: Path, encoded: Array, kind: str) -> Image.Image:
    """Read the header, before memory is taken for what it claims; a label is a PNG, as other files may lose ids."""
    try:
        header = Image.open(BytesIO(encoded.data), formats=["PNG"] if kind == "label" else None)
    except Exception as error:  # as above
        fault = str(error).partition("<")[0].strip()  # the name of a buffer
        raise ValueError(f"{path}: damaged {kind} file ({fault}); restore it from where it came from") from error
    if header.width * header.height > LARGEST:
        claim = f"{header.width}x{header.height} is more pixels than are decoded"
        raise ValueError(f"{path}: {claim}; restore it from where it came from, or make it smaller")
    return header


def _decode(path: Path, encoded: Array, flags: int, kind: str) -> npt.NDArray[np.integer]:
    """Decode a file with OpenCV; imread would fill the rest of a JPEG that is cut short with grey."""
    try:
        decoded = cv2.imdecode(encoded, flags)
    except cv2.error as error:
        raise ValueError(f"{path}: more pixels than can be decoded; restore it from where it came from") from error
    if decoded is None:
        raise ValueError(f"{path}: damaged {kind} file; restore it from where it came from")
    return np.asarray(decoded)


def lookup_table(ids: Mapping[int, int]) -> Array:
    """Spread a mapping label id -> train id over a table of 256 entries, UNKNOWN where it says nothing."""
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    for label_id, train_id in ids.items():
        table[label_id] = train_id
    return table


NO_CHANGE = lookup_table({train_id: train_id for train_id in (*range(len(CLASSES)), IGNORE)})
"""Table of files that hold train ids."""


def to_train_ids(label: npt.NDArray[np.integer], table: Array, path: Path, remedy: str = WRONG_FOLDER) -> Array:
    """Map label ids to train ids.

    Args:
        label: (H, W), ids as stored.
        table: (256,), from `lookup_table`.
        path: the file that errors name.
        remedy: what they advise.

    Returns:
        (H, W) uint8, train ids or IGNORE.

    Raises:
        ValueError: a value is not in the table.
    """
    if label.dtype != np.uint8 and (label.min() < 0 or label.max() > IGNORE):
        unknown = np.unique(label[(label < 0) | (label > IGNORE)])
    else:
        mapped = np.ascontiguousarray(label, dtype=np.uint8)
        if not np.array_equal(table, NO_CHANGE):
            mapped = np.asarray(cv2.LUT(mapped, table), dtype=np.uint8)
        outside = cv2.inRange(mapped, (len(CLASSES),), (UNKNOWN,))  # no train id and not IGNORE
        if not outside.any():
            return mapped
        unknown = np.unique(label[outside > 0])
    known = np.flatnonzero(table != UNKNOWN)
    raise ValueError(
        f"{path}: label value {', '.join(map(str, unknown[:5]))} is not among this data set's ids "
        f"{_ranges(known)}; {remedy}"
    )


def resize(array: Array, size: tuple[int, int], interpolation: int) -> Array:
    """Resize an image or a map to (height, width) with an interpolation of OpenCV."""
    return np.asarray(cv2.resize(array, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)


def _ranges(values: npt.NDArray[np.integer]) -> str:
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs if len(run)) or "(none)"
