"""A folder of label maps without images, whoever has made them."""

from pathlib import Path

import numpy as np

from ppar_lightning.data.dataset import FolderDataset, SegmentationDataset
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, ClassList
from ppar_lightning.images.decoding import Array, lookup_table


class Maps(FolderDataset):
    """Maps of train ids, PNG files in a folder and its sub-folders; the images are black.

    Args:
        root: The folder.
        split: A name for all of them.
        domain: Name of the domain, which its samples carry.
        target: The classes.

    Raises:
        FileNotFoundError: There is no such file.
    """

    def __init__(self, root: str | Path, split: str, domain: str, target: ClassList = CITYSCAPES) -> None:
        SegmentationDataset.__init__(self, split, domain)
        self.labelled_in = self.scored_classes = target
        ids = {train_id: train_id for train_id in (*range(len(target)), IGNORE)}
        found = Layout("*.png", "*.png", ids).files(Path(root), split)[1]
        if not found:
            raise FileNotFoundError(f"no PNG in {root}: name a folder of maps")
        self.names, self.pairs, self.table = [*found], [(path, path) for path in found.values()], lookup_table(ids)

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Decode a map."""
        label = self.read_label(index)
        return np.zeros((*label.shape, 3), np.uint8), label, self.names[index]
