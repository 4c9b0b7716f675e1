"""CamVid: Cambridge by day and at dusk, 480x360, in SegNet's split and 11 classes."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import CITYSCAPES, class_list

IDS = shipped_ids("camvid")
"""A cyclist and the bicycle have one id, which counts as rider: bicycle predicted there is an error of class rider."""


class CamVid(FolderDataset):
    """367 / 101 / 233 images for `train`, `val` and `test`; scored over its 11 classes, on `test`.

    The 11 classes are mapped to Cityscapes' unless those of the run are `camvid11`.
    """

    layouts = (Layout("{split}/*.png", "{split}annot/*.png", IDS),)
    own_classes = class_list("camvid11")
    scored_classes = tuple(name for k, name in enumerate(CITYSCAPES) if k in IDS.values())
    eval_split = "test"
    counts: ClassVar = {"train": 367, "val": 101, "test": 233}
