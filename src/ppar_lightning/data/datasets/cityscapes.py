"""Cityscapes: German cities in daylight, 2048x1024."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import CITYSCAPES_LABEL_IDS, CLASSES, IGNORE

LABEL_IDS = dict.fromkeys((*range(34), 255), IGNORE) | dict(CITYSCAPES_LABEL_IDS)
"""All the ids that `labelIds` files hold; 255 is the license plate, -1 stored in a byte."""

TRAIN_IDS = {train_id: train_id for train_id in (*range(len(CLASSES)), IGNORE)}
"""Files that hold train ids."""


class Cityscapes(FolderDataset):
    """2,975 training and 500 validation images; labels are `labelIds` files, or else `labelTrainIds`."""

    layouts = (
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelIds.png", LABEL_IDS),
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelTrainIds.png", TRAIN_IDS),
    )
    counts: ClassVar = {"train": 2975, "val": 500}
