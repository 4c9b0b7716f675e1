"""MUSES: Swiss roads in four kinds of weather by day and at night, 1920x1080, with Cityscapes' classes."""

from itertools import product
from typing import Any, ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import KINDS
from ppar_lightning.data.layout import Layout

CONDITIONS = tuple(product(("clear", "fog", "rain", "snow"), ("day", "night")))
"""Weather and time of day of the eight conditions."""


def _layouts(condition: str) -> tuple[Layout, ...]:
    """List the layouts: train ids or label ids, without or with the folder `muses` that the zips hold."""
    return tuple(
        Layout(f"{top}frame_camera/{files}_frame_camera.png", f"{top}gt_semantic/{files}_gt_{kind}.png", ids)
        for files in [f"{{split}}/{condition}/*"]
        for top in ("", "muses/")
        for kind, ids in KINDS.items()
    )


class MUSES(FolderDataset):
    """The 1,500 training and 250 validation images of all conditions; `test` has no public labels."""

    layouts = _layouts("*/*")
    counts: ClassVar = {"train": 1500, "val": 250}


class MUSESCondition(FolderDataset):
    """The images of one condition.

    Args:
        given: Those of `FolderDataset`.
        condition: Weather and time of day, such as `fog/night`.
        named: Those of `FolderDataset`.
    """

    def __init__(self, *given: Any, condition: str, **named: Any) -> None:
        self.layouts = _layouts(condition)
        super().__init__(*given, **named)
