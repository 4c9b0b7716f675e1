"""Mapillary Vistas v1.2: streets of the whole world, of many sizes, portrait too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from ppar_lightning.data.classes import IGNORE
from ppar_lightning.data.dataset import FolderDataset, Layout

Mapping19 = Literal["robustnet", "rein"]

_EVERY_ID = dict.fromkeys(range(66), IGNORE)

ROBUSTNET: Mapping[int, int] = (
    _EVERY_ID
    | dict.fromkeys((13, 24, 41), 0)
    | dict.fromkeys((2, 15), 1)
    | {17: 2, 6: 3, 3: 4}
    | dict.fromkeys((45, 47), 5)
    | {48: 6, 50: 7, 30: 8, 29: 9, 27: 10, 19: 11}
    | dict.fromkeys((20, 21, 22), 12)
    | {55: 13, 61: 14, 54: 15, 58: 16, 57: 17, 52: 18}
)
"""Label id -> train id as RobustNet, HRDA, VLTSeg and SCSD count."""

REIN: Mapping[int, int] = (
    dict(ROBUSTNET)
    | dict.fromkeys((7, 8, 10, 14, 23), 0)
    | dict.fromkeys((9, 11), 1)
    | {44: 5}
    | dict.fromkeys((46, 49), 7)
    | {41: IGNORE}
)
"""Label id -> train id as Rein and SoMA count."""

MAPPINGS: Mapping[str, Mapping[int, int]] = {"robustnet": ROBUSTNET, "rein": REIN}


class Mapillary(FolderDataset):
    """18,000 images of split `training` and 2,000 of `validation`.

    Args:
        root: folder of the download.
        split: `training` or `validation`.
        domain: the name its samples carry.
        mapping: which of the two tables in use takes its 66 ids to the 19 classes.
    """

    train_split = "training"
    eval_split = "validation"

    def __init__(self, root: str | Path | None, split: str, domain: str, mapping: Mapping19 = "robustnet") -> None:
        if mapping not in MAPPINGS:
            raise ValueError(f"Mapillary has no mapping {mapping!r}; choose one of {', '.join(get_args(Mapping19))}")
        ids = MAPPINGS[mapping]
        self.layouts = (
            Layout("{split}/images/*.jpg", "{split}/labels/*.png", ids),
            Layout("{split}/images/*.jpg", "{split}/v1.2/labels/*.png", ids),
        )
        super().__init__(root, split, domain)
