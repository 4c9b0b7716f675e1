"""CamVid: Cambridge by day and at dusk, 480x360, in SegNet's split and 11 classes."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import CLASSES, IGNORE

NAMES = ("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "rider")
IDS = {label_id: CLASSES.index(name) for label_id, name in enumerate(NAMES)} | {11: IGNORE}
"""Label id -> train id. Id 6 covers traffic lights too. Id 10 is a cyclist, bicycle included, and counts as rider, its
larger part; a bicycle found on it is an error in that class, and `bicycle` and `traffic light` are not scored."""


class CamVid(FolderDataset):
    """367 / 101 / 233 images for `train`, `val` and `test`; scored over its 11 classes, on `test`."""

    layouts = (Layout("{split}/*.png", "{split}annot/*.png", IDS),)
    scored_classes = tuple(sorted(set(IDS.values()) - {IGNORE}))
    eval_split = "test"
    counts: ClassVar = {"train": 367, "val": 101, "test": 233}
