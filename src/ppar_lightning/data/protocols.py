"""Evaluation protocols by name: the size at which a data set is scored, the sliding window, and the table of ids.

Scores by different protocols are not comparable. Each published protocol follows its repository, and docs/protocols.md
says what it does. A data set for which it defines nothing is scored at its own size. Labels keep their size unless a
view resizes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.decoding import Array, resize
from ppar_lightning.images.tta import ONE_COPY, TTA
from ppar_lightning.images.window import Window

View = Callable[[Array, Array], tuple[Array, Array]]
"""Maps an image (H, W, 3) and a label (H', W') to the image that is segmented and the label it is scored against."""


@dataclass(frozen=True)
class Protocol:
    """How domains are scored.

    Attributes:
        window: Sliding window; None segments the whole image at once.
        views: Name of a data set -> its view; other data sets are scored at their own size.
        options: Name of a data set -> options that it is opened with, unless the config gives them.
    """

    window: Window | None = None
    views: Mapping[str, View] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def fit(image: Array, label: Array, long: int, short: int) -> tuple[Array, Array]:
    """Resize the image, keeping its ratio, to the largest size within `long` x `short`; keep the label."""
    sides = image.shape[:2]
    scale = min(long / max(sides), short / min(sides))
    height, width = (max(1, int(side * scale + 0.5)) for side in sides)
    return resize(image, (height, width), cv2.INTER_LINEAR), label


def halve(image: Array, label: Array, within: tuple[int, int] | None = None) -> tuple[Array, Array]:
    """Resize image and label to half their size, and then the image alone by `fit` if `within` names its sides."""
    size = (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2))
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    return fit(image, label, *within) if within else (image, label)


def square(image: Array, label: Array, side: int, exact: bool) -> tuple[Array, Array]:
    """Resize image and label to height `side`, then crop or pad them to a square around their centre.

    Args:
        image: (H, W, 3).
        label: (H, W).
        side: Side of the square in pixels.
        exact: Pad and crop as RobustNet's evaluation does. It pads a narrow image by the whole missing width on both
            sides, but crops the square at its position before the padding. The image therefore loses columns at its
            right border, half the missing width, and the padding counts as class 0, road.
    """
    width = max(1, int(image.shape[1] / image.shape[0] * side))
    image = np.asarray(Image.fromarray(image).resize((width, side), Image.Resampling.BICUBIC))
    label = np.asarray(Image.fromarray(label).resize((width, side), Image.Resampling.NEAREST))
    offset = round((width - side) / 2)  # of the square in the image; negative for a narrow image
    left = max(0, -offset) + (max(0, side - width) if exact else 0)
    kept = slice(max(0, offset), max(0, offset) + max(0, side - left))
    canvas = np.zeros((side, side, 3), np.uint8)
    target = np.full((side, side), 0 if exact else IGNORE, np.uint8)
    columns = slice(left, left + image[:, kept].shape[1])
    canvas[:, columns], target[:, columns] = image[:, kept], label[:, kept]
    return canvas, target


_SLIDING, _LARGE = Window(512, 341), partial(fit, long=2048, short=1024)
_REIN_IDS = {"mapillary": {"mapping": "rein"}}

PROTOCOLS: Mapping[str, Protocol] = {
    "full": Protocol(),  # every image and label at its own size, and whole, or through the window of data.window
    "robustnet": Protocol(views={"mapillary": partial(square, side=1536, exact=False)}),
    "robustnet_exact": Protocol(views={"mapillary": partial(square, side=1536, exact=True)}),
    "rein": Protocol(_SLIDING, {"cityscapes": partial(fit, long=1024, short=512), "mapillary": halve}, _REIN_IDS),
    "soma": Protocol(_SLIDING, {"mapillary": partial(halve, within=(2048, 1024))}, _REIN_IDS),
    "tqdm": Protocol(_SLIDING, {"mapillary": _LARGE}),  # RobustNet's ids of Mapillary
    "dgvfm": Protocol(Window(512, 320), {"bdd100k": _LARGE, "mapillary": _LARGE}, _REIN_IDS),
}
"""Name -> protocol."""


def find_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        ValueError: There is no protocol of that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def protocol_window(name: str, window: Window | None) -> tuple[int, int] | None:
    """Return size and stride of a protocol's window; `full` uses the given one. None segments the whole image."""
    used = window if name == "full" else find_protocol(name).window
    return None if used is None else (used.size, used.stride)


def protocol_title(name: str, window: Window | None, tta: TTA = ONE_COPY) -> str:
    """Return what is shown beside scores: a protocol, the window if it was chosen freely, and the copies if any."""
    return (f"full (window {window.size}, stride {window.stride})" if name == "full" and window else name) + tta.title
