"""SYNTHIA-RAND-CITYSCAPES: a rendered city from random viewpoints, 1280x760."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import class_list
from ppar_lightning.images.decoding import read_red_label


class SYNTHIA(FolderDataset):
    """9,400 images as `all`, or 6,580 / 2,820 as `train` and `val`.

    The data set has no official split. RobustNet drew one at random and published it as the lists
    `synthia_split_train.txt` and `synthia_split_val.txt`, which are used if they are in the folder. Without them, `val`
    is every image whose number ends in 7, 8 or 9. A remark then says that the splits have the same sizes but other
    images. Label files are 16-bit RGB with the class in red; terrain, truck and train do not occur.
    """

    layouts = (Layout("RGB/*.png", "GT/LABELS/*.png", shipped_ids("synthia"), beside="_labelTrainIds"),)
    splits = ("train", "val", "all")
    scored_classes = class_list("synthia16")
    counts: ClassVar = {"train": 6580, "val": 2820, "all": 9400}

    def select(self, names: Sequence[str]) -> Sequence[str]:
        """Choose images by RobustNet's lists, or else by the last digit."""
        if self.split == "all":
            return names
        path = self.root / f"synthia_split_{self.split}.txt"
        if path.is_file():
            return [Path(line).stem for line in path.read_text().split()]
        remedy = f"for that, put {path.name} into {self.root}"
        self.remarks.append(f"split {self.split!r} is by last digit, not RobustNet's; {remedy}")
        return [name for name in names if (name[-1] in "789") == (self.split == "val")]

    def decode_label(self, path: Path) -> npt.NDArray[np.integer]:
        """Read the ids from the red channel."""
        return read_red_label(path)
