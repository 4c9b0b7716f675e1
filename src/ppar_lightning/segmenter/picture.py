"""Pictures of any kind as what the segmenter takes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ppar_lightning.data.decoding import read_image

Picture = str | Path | Image.Image | npt.NDArray[np.uint8] | Tensor
"""A file, a PIL image, RGB (H, W, 3) uint8, or a tensor (3, H, W): uint8, or float in [0, 1]."""


def to_image(picture: Picture) -> Tensor:
    """Convert a picture to (3, H, W) float32 RGB in [0, 1].

    Files are read as training reads them, so an orientation tag is left alone.

    Raises:
        ValueError: If it is no picture, naming what was given.
    """
    if isinstance(picture, str | Path):
        picture = read_image(Path(picture))
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture.convert("RGB"))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"an array {picture.shape} of {picture.dtype} is no picture: give RGB (H, W, 3) uint8")
        picture = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    if not isinstance(picture, Tensor):
        raise ValueError(f"a {type(picture).__name__} is no picture: give a path, a PIL image, an array or a tensor")
    floating, kind = picture.is_floating_point(), f"a tensor {tuple(picture.shape)} of {picture.dtype}"
    if picture.ndim != 3 or picture.shape[0] != 3 or not (floating or picture.dtype == torch.uint8):
        raise ValueError(f"{kind} is no picture: give (3, H, W), uint8 or float in [0, 1]")
    return picture.float() if floating else picture.float() / 255
