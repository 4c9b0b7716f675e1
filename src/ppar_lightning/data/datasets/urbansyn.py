"""UrbanSyn: rendered cities, 2048x1024."""

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import TRAIN_IDS
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import IGNORE


class UrbanSyn(FolderDataset):
    """More than 7,500 images without splits, opened as `all`; id 19 is unlabelled."""

    layouts = (
        Layout("rgb/rgb_*.png", "ss/ss_*.png", TRAIN_IDS | {19: IGNORE}),
        Layout("rgb/*.png", "ss/*.png", TRAIN_IDS | {19: IGNORE}),
    )
    splits = ("all",)
    train_split = "all"
    eval_split = "all"
