"""Cityscapes: German cities in daylight, 2048x1024."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import LABEL_IDS, TRAIN_IDS
from ppar_lightning.data.layout import Layout


class Cityscapes(FolderDataset):
    """2,975 training and 500 validation images; labels are `labelIds` files, or else `labelTrainIds`."""

    layouts = (
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelIds.png", LABEL_IDS),
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelTrainIds.png", TRAIN_IDS),
    )
    counts: ClassVar = {"train": 2975, "val": 500}
