"""Mapillary Vistas v1.2: streets all over the world, in many sizes, including portrait."""

from pathlib import Path
from typing import ClassVar, Literal, get_args

from ppar_lightning.data.dataset import FolderDataset, OnBadSample
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, ClassList, class_list

Mapping19 = Literal["robustnet", "rein"]

MAPPINGS = {name: shipped_ids(f"mapillary {name}") for name in get_args(Mapping19)}
"""Name -> (label id -> train id)."""

OWN = class_list("mapillary65")
"""The data set's own classes in the order of their ids; id 65 is unlabelled."""


class Mapillary(FolderDataset):
    """18,000 images of split `training` and 2,000 of `validation`, with the 66 ids of v1.2.

    Args:
        root: Folder of the download.
        split: `training` or `validation`.
        domain: Name of the domain, which its samples carry.
        mapping: Name of the table that maps the 66 ids to the 19 classes, `robustnet` or `rein`; it is not used if the
            classes of the run are `mapillary65`, the data set's own.
        target: Classes of the run.
        on_bad_sample: See `FolderDataset`.
    """

    train_split = "training"
    eval_split = "validation"
    counts: ClassVar = {"training": 18000, "validation": 2000}
    id_remedy = "v2.0 has other ids; use the labels of v1.2"

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        mapping: Mapping19 = "robustnet",
        target: ClassList = CITYSCAPES,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        if mapping not in MAPPINGS:
            raise ValueError(f"Mapillary has no mapping {mapping!r}; choose one of {', '.join(get_args(Mapping19))}")
        ids = MAPPINGS[mapping]
        if target.names == OWN.names:
            ids, self.labelled_in, self.scored_classes = (
                {**dict(enumerate(range(len(OWN)))), len(OWN): IGNORE},
                OWN,
                OWN,
            )
        self.layouts = (
            Layout("{split}/images/*.jpg", "{split}/v1.2/labels/*.png", ids),
            Layout("{split}/images/*.jpg", "{split}/labels/*.png", ids),
        )
        super().__init__(root, split, domain, on_bad_sample)
