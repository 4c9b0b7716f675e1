"""BDD100K: US roads in all weathers and lights, 1280x720."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import TRAIN_IDS
from ppar_lightning.data.layout import Layout


class BDD100K(FolderDataset):
    """7,000 training and 1,000 validation images of the 10k set, in the new layout or the old one."""

    layouts = (
        Layout("images/10k/{split}/*.jpg", "labels/sem_seg/masks/{split}/*.png", TRAIN_IDS),
        Layout("images/{split}/*.jpg", "labels/{split}/*_train_id.png", TRAIN_IDS),
    )
    counts: ClassVar = {"train": 7000, "val": 1000}
