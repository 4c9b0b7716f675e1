"""Mapillary Vistas v1.2: streets all over the world, in many sizes, including portrait."""

from typing import Any, ClassVar, Literal, get_args

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import class_list

Mapping19 = Literal["robustnet", "rein"]

MAPPINGS = {name: shipped_ids(f"mapillary {name}") for name in get_args(Mapping19)}
"""Name -> (label id -> train id)."""


class Mapillary(FolderDataset):
    """18,000 images of split `training` and 2,000 of `validation`, with the 66 ids of v1.2.

    Args:
        given: Those of `FolderDataset`.
        mapping: Name of the table that maps the 66 ids to the 19 classes, `robustnet` or `rein`; it is not used if the
            classes of the run are `mapillary65`, the data set's own.
        named: Those of `FolderDataset`.
    """

    own_classes = class_list("mapillary65")
    train_split = "training"
    eval_split = "validation"
    counts: ClassVar = {"training": 18000, "validation": 2000}
    id_remedy = "v2.0 has other ids; use the labels of v1.2"

    def __init__(self, *given: Any, mapping: Mapping19 = "robustnet", **named: Any) -> None:
        patterns = ("{split}/v1.2/labels/*.png", "{split}/labels/*.png")
        self.layouts = tuple(Layout("{split}/images/*.jpg", labels, MAPPINGS[mapping]) for labels in patterns)
        super().__init__(*given, **named)
