"""CamVid: Cambridge by day and at dusk, 480x360, in SegNet's split and 11 classes."""

from pathlib import Path
from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset, OnBadSample
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, ClassList, class_list

IDS = shipped_ids("camvid")
"""A cyclist and the bicycle have one id, which counts as rider: bicycle predicted there is an error of class rider."""


class CamVid(FolderDataset):
    """367 / 101 / 233 images for `train`, `val` and `test`; scored over its 11 classes, on `test`.

    Args:
        root: Folder of the download.
        split: `train`, `val` or `test`.
        domain: Name of the domain, which its samples carry.
        target: Classes of the run; the 11 classes are mapped to Cityscapes' unless it is `camvid11`.
        on_bad_sample: See `FolderDataset`.
    """

    eval_split = "test"
    counts: ClassVar = {"train": 367, "val": 101, "test": 233}

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        target: ClassList = CITYSCAPES,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        own, ids = class_list("camvid11"), IDS
        if target.names == own.names:
            ids, self.labelled_in = {**dict(enumerate(range(len(own)))), len(own): IGNORE}, own
        self.scored_classes = [self.labelled_in[k] for k in sorted({*ids.values()} - {IGNORE})]
        self.layouts = (Layout("{split}/*.png", "{split}annot/*.png", ids),)
        super().__init__(root, split, domain, on_bad_sample)
