"""What a file holds that cannot be decoded, and what to do about it."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Kind = Literal["image", "label"]

PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG."""

RESTORE = "restore it from where it came from"
"""Remedy for a damaged file."""

USUAL: Mapping[Kind, Sequence[str]] = {"image": ("PNG", "JPEG"), "label": ("PNG",)}
"""Formats that images and labels should have."""

SAVE: Mapping[Kind, str] = {
    "image": "save it as PNG or JPEG of 8 bits",
    "label": "export its ids again as PNG, as other formats may lose ids",
}
"""Remedy for a file of another kind."""


def undecodable(encoded: npt.NDArray[np.uint8], kind: Kind) -> str:
    """Say in one line why an image, or a label, cannot be decoded: it is damaged, too large or of another kind.

    Args:
        encoded: (N,) the bytes of the file.
        kind: What it should hold.
    """
    fault = "it is empty" if not encoded.size else "it is no picture"
    if encoded[4:8].tobytes() == b"ftyp":  # Pillow knows it only with plugins
        return f"a HEIC or AVIF picture, which cannot be read; {SAVE[kind]}"
    try:
        with Image.open(BytesIO(encoded.data)) as picture:
            found, fault = picture.format or "", "its content is cut short or changed"
            if found not in USUAL[kind]:
                picture.load()  # a damaged one raises an error
                return f"a {found} picture of mode {picture.mode}, which cannot be read; {SAVE[kind]}"
    except Image.DecompressionBombError:
        return "more pixels than can be decoded; cut image and label into parts"
    except Exception:  # Pillow raises many kinds of error for a damaged file
        pass
    return f"damaged {kind} file ({fault}); {RESTORE}"
