"""GTA5: frames of a video game, 1914x1052, with Cityscapes' classes."""

from collections.abc import Sequence
from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import LABEL_IDS, TRAIN_IDS
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import IGNORE

FAULTY = frozenset((12160, 12166, 12167, *range(12191, 12194), 12195, *range(12202, 12209), 19993))
"""Training frames, black or faulty, that RobustNet's list leaves out."""

ALL = "train_split and eval_split to all"
"""Options that need no split.mat."""


class GTA5(FolderDataset):
    """24,966 frames; split.mat lists 12,403 as `train`, 6,382 as `val` and 6,181 as `test`, and `all` does not need it.

    `train_robustnet` is `train` without 15 faulty frames. About 60 label maps have a few rows more or fewer than their
    frame and are resized to it. If `*_labelTrainIds.png` files lie beside the original labels, the originals are read.
    """

    layouts = (
        Layout("images/*.png", "labels/*.png", LABEL_IDS | {34: IGNORE}, beside="_labelTrainIds"),  # 34: license plate
        Layout("images/*.png", "labels/*_labelTrainIds.png", TRAIN_IDS),
    )
    splits = ("train", "val", "test", "train_robustnet", "all")
    counts: ClassVar = {"train": 12403, "val": 6382, "test": 6181, "train_robustnet": 12388, "all": 24966}
    resize_labels = True

    def select(self, names: Sequence[str]) -> Sequence[str]:
        """Choose the frames that split.mat lists."""
        if self.split == "all":
            return names
        path = self.root / "split.mat"
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found, which lists split {self.split!r}; put it there, or set {ALL}")
        from scipy.io import loadmat  # slow to load, and only needed here

        key, _, variant = self.split.partition("_")
        try:
            numbers = loadmat(path)[f"{key}Ids"].ravel().astype(int).tolist()
        except Exception as error:  # scipy raises many kinds of error for a damaged file
            raise ValueError(f"{path} holds no {key}Ids; download it again, or set {ALL}") from error
        return [f"{n:05d}" for n in numbers if not (variant and n in FAULTY)]
