"""Samples that cannot be read, where they shall not end the run."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset, Subset

from ppar_lightning.data.classes import IGNORE
from ppar_lightning.data.dataset import Sample, SegmentationDataset, Skipped
from ppar_lightning.data.protocols import ViewedDataset

SIDE = 64
"""Height and width of a placeholder, small and yet large enough for every backbone."""


class SkippingDataset(Dataset[Sample]):
    """A data set that gives a placeholder in place of a sample that cannot be read.

    The placeholder is (SIDE, SIDE), its label all IGNORE, its name empty, and its `error` says why.

    Args:
        samples: a data set as `Domain.open` gives it.
    """

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples
        self.whole, self.indices = unwrap(samples)

    def __len__(self) -> int:
        """Number of samples, the unreadable ones included."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample, or explain why it cannot be read."""
        try:
            return self.samples[index]
        except (ValueError, OSError) as error:
            skipped = Skipped(self.whole.domain, self.whole.name(self.indices[index]), str(error))
        image, label = np.zeros((SIDE, SIDE, 3), dtype=np.uint8), np.full((SIDE, SIDE), IGNORE, dtype=np.uint8)
        return {"image": image, "label": label, "name": "", "domain": skipped.domain, "error": [skipped]}


def is_placeholder(sample: Sample) -> bool:
    """Whether a sample stands for one that cannot be read."""
    return not sample["name"]


def unwrap(dataset: Dataset[Sample]) -> tuple[SegmentationDataset, Sequence[int]]:
    """Take a data set that `Domain.open` gave apart: the whole split, and the indices that are used of it."""
    if isinstance(dataset, ViewedDataset):
        dataset = dataset.dataset
    if isinstance(dataset, Subset):
        return dataset.dataset, dataset.indices  # type: ignore[return-value]
    return dataset, range(len(dataset))  # type: ignore[return-value, arg-type]
