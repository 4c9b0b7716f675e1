"""KITTI semantics: roads in and around Karlsruhe, about 1242x375."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import LABEL_IDS
from ppar_lightning.data.layout import Layout


class KITTI(FolderDataset):
    """200 images of split `training`, for training or evaluation; `testing` has no public labels."""

    layouts = (
        # Scene flow 2015 uses the same folder; its second frames, *_11.png, have no labels.
        Layout("{split}/image_2/*_10.png", "{split}/semantic/*_10.png", LABEL_IDS),
        Layout("{split}/image_2/*.png", "{split}/semantic/*.png", LABEL_IDS),
    )
    train_split = "training"
    eval_split = "training"
    counts: ClassVar = {"training": 200}
