"""Mapillary Vistas v1.2: streets all over the world, in many sizes, including portrait."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, get_args

from ppar_lightning.data.dataset import FolderDataset, OnBadSample
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import IGNORE

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
"""Label id -> train id, as used by RobustNet, HRDA, VLTSeg and SCSD."""

REIN: Mapping[int, int] = (
    dict(ROBUSTNET)
    | dict.fromkeys((7, 8, 10, 14, 23), 0)
    | dict.fromkeys((9, 11), 1)
    | {44: 5}
    | dict.fromkeys((46, 49), 7)
    | {41: IGNORE}
)
"""Label id -> train id, as used by Rein and SoMA."""

MAPPINGS: Mapping[str, Mapping[int, int]] = {"robustnet": ROBUSTNET, "rein": REIN}


class Mapillary(FolderDataset):
    """18,000 images of split `training` and 2,000 of `validation`, with the 66 ids of v1.2.

    Args:
        root: Folder of the download.
        split: `training` or `validation`.
        domain: Name of the domain, which its samples carry.
        mapping: The table that maps its 66 ids to the 19 classes.
        on_bad_sample: See `FolderDataset`.
    """

    train_split = "training"
    eval_split = "validation"
    counts: ClassVar = {"training": 18000, "validation": 2000}
    id_remedy = "v2.0 has other ids; take the labels of v1.2"

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        mapping: Mapping19 = "robustnet",
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        if mapping not in MAPPINGS:
            raise ValueError(f"Mapillary has no mapping {mapping!r}; choose one of {', '.join(get_args(Mapping19))}")
        ids = MAPPINGS[mapping]
        self.layouts = (
            Layout("{split}/images/*.jpg", "{split}/v1.2/labels/*.png", ids),
            Layout("{split}/images/*.jpg", "{split}/labels/*.png", ids),
        )
        super().__init__(root, split, domain, on_bad_sample)

    def find(self) -> tuple[Layout, dict[str, Path], dict[str, Path]]:
        """Check that the labels are those of v1.2, then choose the layout.

        Raises:
            ValueError: The folder holds only v2.0, or a config.json that is damaged or lists another number of labels.
        """
        if not (self.root / self.split / "v1.2" / "labels").is_dir():
            for name in ("config_v2.0.json", f"{self.split}/v2.0"):
                if (self.root / name).exists() and not (self.root / "config_v1.2.json").exists():
                    raise ValueError(f"{self.root / name} belongs to Mapillary Vistas v2.0; {self.id_remedy}")
        for path in (self.root / "config_v1.2.json", self.root / "config.json"):
            if path.is_file() and (labels := _count_labels(path)) != len(_EVERY_ID):
                raise ValueError(f"{path} lists {labels} labels, not the {len(_EVERY_ID)} of v1.2; {self.id_remedy}")
        return super().find()


def _count_labels(path: Path) -> int:
    try:
        return len(json.loads(path.read_text())["labels"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no JSON file with a list of labels; extract it again, or move it away") from error
