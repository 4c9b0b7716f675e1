"""Placeholders: for samples that cannot be read, where they shall not end the run, and to even out ranks."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset, Subset

from ppar_lightning.data.dataset import Sample, SegmentationDataset, Skipped
from ppar_lightning.data.protocols import ViewedDataset
from ppar_lightning.images.classes import IGNORE

SIDE = 64
"""Height and width of a placeholder, small and yet large enough for every backbone."""

PADDING = -1
"""Index of a sample that is none: it fills up a rank whose share of an evaluation is smaller than another's."""


class SkippingDataset(Dataset[Sample]):
    """A data set that gives a placeholder in place of a sample that cannot be read.

    The placeholder's `error` says why.

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
        return placeholder(skipped.domain, [skipped])


class PaddedDataset(Dataset[Sample]):
    """A data set whose item PADDING is a placeholder without an error, which is neither scored nor listed.

    Args:
        samples: a data set as `Domain.open` gives it, or one that skips.
        domain: its name.
    """

    def __init__(self, samples: Dataset[Sample], domain: str) -> None:
        self.samples = samples
        self.domain = domain

    def __len__(self) -> int:
        """Number of samples, without padding."""
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        """Read a sample, or pad."""
        return placeholder(self.domain, []) if index == PADDING else self.samples[index]


def placeholder(domain: str, errors: list[Skipped]) -> Sample:
    """Stand for a sample that is not there: (SIDE, SIDE), its label all IGNORE, its name empty."""
    image, label = np.zeros((SIDE, SIDE, 3), dtype=np.uint8), np.full((SIDE, SIDE), IGNORE, dtype=np.uint8)
    return {"image": image, "label": label, "name": "", "domain": domain, "error": errors}


def is_placeholder(sample: Sample) -> bool:
    """Whether a sample stands for one that is not there."""
    return not sample["name"]


def unwrap(dataset: Dataset[Sample]) -> tuple[SegmentationDataset, Sequence[int]]:
    """Take a data set that `Domain.open` gave apart: the whole split, and the indices that are used of it."""
    if isinstance(dataset, ViewedDataset):
        dataset = dataset.dataset
    if isinstance(dataset, Subset):
        return dataset.dataset, dataset.indices  # type: ignore[return-value]
    return dataset, range(len(dataset))  # type: ignore[return-value, arg-type]
