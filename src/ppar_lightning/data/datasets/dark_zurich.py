"""Dark Zurich: Zurich at night, 1920x1080."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import TRAIN_IDS
from ppar_lightning.data.layout import Layout


class DarkZurich(FolderDataset):
    """The 50 validation images taken at night; the other splits have no public labels."""

    layouts = (Layout("rgb_anon/{split}/night/*_rgb_anon.png", "gt/{split}/night/*_gt_labelTrainIds.png", TRAIN_IDS),)
    counts: ClassVar = {"val": 50}
