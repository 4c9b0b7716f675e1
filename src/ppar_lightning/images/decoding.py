"""Reading image and label files, and mapping label ids to train ids."""

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

quieten = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # by version 4 and 5
quieten(0)  # an error of this package names the file in one line, and OpenCV adds lines to it

Array = npt.NDArray[np.uint8]
Table = npt.NDArray[np.int16]

PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG."""

GREY_8, RGB = b"\x08\0", 2
"""Bit depth and colour type of bytes in grey, and the colour type of RGB, in the header of a PNG."""

DEEP_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
"""OpenCV's flags for RGB of 8 or 16 bits; Pillow keeps the high bytes of 16, which are 0 for every id."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
"""Suffixes of files that are read as images."""

LOSSLESS = {"PNG": (".png",), "TIFF": (".tif", ".tiff"), "BMP": (".bmp",)}
"""Kind of file that keeps the ids of a label, as Pillow calls it -> suffixes."""

GREY = ("1", "L", "I;16", "I;16B", "P")
"""Pillow's modes of pictures whose pixels are one id each."""

UNKNOWN = -2
"""Entry of a lookup table for a value that the data set does not define; as a byte 254, as in older fingerprints."""

SHOWN = 70
"""Largest number of ids that an error lists."""

EXPORT = "put a grey or palette PNG of its ids in its place"
"""Remedy for a label in colours, unless a data set names a better one."""

WRONG_ROOT = "check that root and dataset belong together, or read it as data set folder, with ids of your own"
"""Remedy for a label value outside the table, unless a data set names a better one."""

RESTORE = "restore it from where it came from"
"""Remedy for a damaged file."""

SAVE = {"image": "save it as PNG or JPEG of 8 bits", "label": "export it again as PNG, as other formats may lose ids"}
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
    """Decode a file of label ids, upright like images; one with a palette gives its indices, not its colours.

    Args:
        path: PNG, TIFF or BMP: grey, with a palette, or with three equal channels.
        remedy: What the user can do if the file holds colours, for error messages.

    Returns:
        (H, W), the ids as they are stored, whatever the bit depth.

    Raises:
        ValueError: The file cannot be read, is damaged, is of a kind that may lose ids, or is a colour image.
    """
    encoded = _read(path)
    if encoded[: len(PNG)].tobytes() == PNG and encoded[24:26].tobytes() == GREY_8:  # OpenCV is the faster one
        return _decode(path, encoded, cv2.IMREAD_GRAYSCALE, "label")
    picture, depth = _open_label(path, encoded)
    if picture.mode in GREY:
        label = np.asarray(picture)
        spread = picture.mode == "L" and depth < 8  # decoders spread fewer bits over 0-255
        return label // (255 // (2**depth - 1)) if spread else label
    opaque = picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255)
    if picture.mode == "RGB" or opaque:
        channels = _decode(path, encoded, DEEP_RGB, "label")
        if (channels == channels[..., :1]).all():
            return np.asarray(channels[..., 0])
    raise ValueError(f"{path}: a picture of mode {picture.mode}, not a map of ids; {remedy}")


def read_coloured_label(path: Path) -> Array:
    """Decode a label in colours, upright like images.

    Args:
        path: PNG, TIFF or BMP: RGB, with a palette, or grey. An alpha channel is dropped.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: The file cannot be read, is damaged, or is of a kind that may change colours.
    """
    return np.asarray(_open_label(path, _read(path))[0].convert("RGB"))


def _open_label(path: Path, encoded: Array) -> tuple[Image.Image, int]:
    """Open a label of a lossless kind with Pillow, because OpenCV expands palettes. The number is its bit depth."""
    try:
        Image.open(BytesIO(encoded.data)).verify()  # decoding alone would not check the checksums
        picture = Image.open(BytesIO(encoded.data))
        lossless = picture.format in LOSSLESS and "jpeg" not in str(picture.info.get("compression"))
        ImageOps.exif_transpose(picture, in_place=True)
        picture.load()
        tags = getattr(picture, "tag_v2", {})
        depth = int(encoded[24]) if picture.format == "PNG" else tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0]
    except Exception:  # Pillow raises many kinds of error for a damaged file
        _refuse(path, encoded, "label")
    if not lossless:
        _refuse(path, encoded, "label")
    return picture, depth


def read_red_label(path: Path) -> npt.NDArray[np.integer]:
    """Decode a colour PNG whose red channel, of 8 or 16 bits, holds label ids, upright like images.

    Returns:
        (H, W), the ids as they are stored.

    Raises:
        ValueError: The file cannot be read, is damaged, or is no PNG in RGB.
    """
    encoded = _read(path)
    label = _decode(path, encoded, DEEP_RGB, "label")
    if encoded[: len(PNG)].tobytes() != PNG or encoded[25] != RGB:
        raise ValueError(f"{path}: not the RGB file with ids in red that was expected; {RESTORE}")
    return np.asarray(label[..., 0])


def _read(path: Path) -> Array:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); {RESTORE}, or allow to read it") from error


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


def lookup_table(ids: Mapping[int, int]) -> Table:
    """Turn a mapping label id -> train id into a table of at least 256 entries, UNKNOWN where the mapping has none."""
    table = np.full(max([256, *(label_id + 1 for label_id in ids)]), UNKNOWN, dtype=np.int16)
    table[[*ids]] = [*ids.values()]
    return table


def to_train_ids(label: npt.NDArray[np.integer], table: Table, path: Path, remedy: str = WRONG_ROOT) -> Array:
    """Map label ids to train ids.

    Args:
        label: (H, W), ids as stored.
        table: From `lookup_table`.
        path: The label file, for error messages.
        remedy: What the user can do, for error messages.

    Returns:
        (H, W) uint8, train ids or IGNORE.

    Raises:
        ValueError: A value is not in the table.
    """
    if label.dtype == np.uint8 and len(table) == 256:
        quick = np.asarray(cv2.LUT(np.ascontiguousarray(label), table.astype(np.uint8)), dtype=np.uint8)
        if UNKNOWN % 256 not in quick.tobytes():  # train id 254 has the same byte
            return quick
    listed = (label >= 0) & (label < len(table))
    mapped = np.where(listed, np.take(table, label, mode="clip"), UNKNOWN)
    outside = mapped == UNKNOWN
    if outside.any():
        unknown = ", ".join(map(str, np.unique(label[outside])[:5].astype(int)))
        known = np.flatnonzero(table != UNKNOWN)
        listing = ", ".join(map(str, known[:SHOWN])) + ", ..." * (len(known) > SHOWN)
        raise ValueError(f"{path}: label value {unknown} is not among this data set's ids {listing}; {remedy}")
    return mapped.astype(np.uint8)


def resize(array: Array, size: tuple[int, int], interpolation: int) -> Array:
    """Resize an image or a map to (height, width) with an interpolation of OpenCV."""
    return np.asarray(cv2.resize(array, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)
