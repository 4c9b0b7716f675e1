"""CamVid: Cambridge by day and at dusk, 480x360, in SegNet's split and 11 classes."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import IGNORE

IDS = shipped_ids("camvid")
"""A cyclist and the bicycle have one id, which counts as rider: bicycle predicted there is an error of class rider."""


class CamVid(FolderDataset):
    """367 / 101 / 233 images for `train`, `val` and `test`; scored over its 11 classes, on `test`."""

    layouts = (Layout("{split}/*.png", "{split}annot/*.png", IDS),)
    scored_classes = tuple(sorted(set(IDS.values()) - {IGNORE}))
    eval_split = "test"
    counts: ClassVar = {"train": 367, "val": 101, "test": 233}
