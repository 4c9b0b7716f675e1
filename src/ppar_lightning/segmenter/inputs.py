"""Conversion of any kind of picture to the segmenter's input."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ppar_lightning.images.decoding import read_image

Picture = str | Path | Image.Image | npt.NDArray[np.uint8] | Tensor
"""A file, a PIL image, RGB (H, W, 3) uint8, or a tensor (3, H, W): uint8, or float in [0, 1]."""

CONVERTED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
"""PIL modes with at most 8 bits per channel, which can be converted to RGB without clipping."""

ROUNDING = 1e-4
"""Tolerance for float values outside [0, 1], as resizing may produce them."""

REMEDY = "give a path, a PIL image, RGB (H, W, 3) uint8, or a tensor (3, H, W), uint8 or float in [0, 1]"


def to_image(picture: Picture) -> Tensor:
    """Convert a picture to (3, H, W) float32 RGB in [0, 1].

    Files and PIL images are rotated according to their orientation tag, as in `ppar predict`. Values of 16 bits in a
    file are reduced to their high 8 bits.

    Raises:
        ValueError: ``picture`` is not a picture; the message says what was given.
    """
    if isinstance(picture, str | Path):
        picture = read_image(Path(picture))
    if isinstance(picture, Image.Image):
        picture = _from_pil(picture)
    shown = "".join(f", {name} {getattr(picture, name)}" for name in ("shape", "dtype") if hasattr(picture, name))
    kind = type(picture).__name__ + shown
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3:
        # A copy, because torch warns about read-only arrays.
        picture = torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)
    if isinstance(picture, Tensor) and picture.ndim == 3 and len(picture) == 3 and picture.numel():
        if picture.dtype == torch.uint8:
            return picture.float() / 255
        if picture.is_floating_point() and picture.min() >= -ROUNDING and picture.max() <= 1 + ROUNDING:
            return picture.float()
    raise ValueError(f"a {kind} is no picture: {REMEDY}")


def _from_pil(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """Convert a PIL image to (H, W, 3) RGB."""
    if picture.mode not in CONVERTED:
        raise ValueError(f"a PIL image of mode {picture.mode!r} is no picture: give one in RGB, or its path")
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def as_float(image: Tensor) -> Tensor:
    """Convert RGB, uint8 or float in [0, 1], to float32 in [0, 1], on the device it is on."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()
