"""GTA5: frames of a game, 1914x1052, with Cityscapes' classes."""

import warnings
from collections.abc import Sequence

from scipy.io import loadmat

from ppar_lightning.data.classes import IGNORE
from ppar_lightning.data.dataset import FolderDataset, Layout
from ppar_lightning.data.datasets.cityscapes import LABEL_IDS, TRAIN_IDS

SPLITS = ("train", "val", "test")


class GTA5(FolderDataset):
    """24,966 frames, in 12,403 / 6,382 / 6,181 for `train`, `val` and `test` by its own split.mat; `all` needs no file.

    About 60 label maps differ from their frame by some rows and are resized to it.
    """

    layouts = (
        Layout("images/*.png", "labels/*_labelTrainIds.png", TRAIN_IDS),
        Layout("images/*.png", "labels/*.png", LABEL_IDS | {34: IGNORE}),  # 34 is the license plate here
    )
    resize_labels = True

    def select(self, names: Sequence[str]) -> list[str]:
        """Choose the frames that split.mat lists, and warn of those that are not in the folder."""
        if self.split == "all":
            return list(names)
        if self.split not in SPLITS:
            raise ValueError(f"GTA5 has no split {self.split!r}; choose one of {', '.join(SPLITS)}, all")
        path = self.root / "split.mat"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} not found, which lists split {self.split!r}; put it there or set train_split to all"
            )
        listed = [f"{number:05d}" for number in loadmat(path)[f"{self.split}Ids"].ravel()]
        present = set(names)
        chosen = [name for name in listed if name in present]
        if len(chosen) < len(listed):
            absent = next(name for name in listed if name not in present)
            warnings.warn(
                f"{self.root}: {len(listed) - len(chosen)} of the {len(listed)} frames of split {self.split!r} "
                f"are absent, the first is {absent}",
                stacklevel=2,
            )
        return chosen
