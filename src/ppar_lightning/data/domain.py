"""A domain as a config writes it."""

import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import Dataset, Subset

from ppar_lightning.data.dataset import OnBadSample, Sample, SegmentationDataset
from ppar_lightning.data.datasets import DATASETS


@dataclass(frozen=True)
class Domain:
    """Where a domain's images come from.

    Attributes:
        dataset: name of the data set; by default the domain's own name.
        root: folder of the download; rendered data sets have none.
        train_split: split to train on; by default the data set's own.
        eval_split: split to score on; by default the data set's own.
        limit: use only this many images, evenly spaced over the split.
        options: further arguments of the data set.
    """

    dataset: str | None = None
    root: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def open(
        self, name: str, split: str, on_bad_sample: OnBadSample = "raise"
    ) -> tuple[Dataset[Sample], tuple[int, ...]]:
        """Open a split, and warn of what the data set remarks.

        Args:
            name: the domain's name.
            split: `train` or `eval`, which stands for `train_split` or `eval_split`.
            on_bad_sample: what files without a counterpart do, in data sets that read files.

        Returns:
            The data set and the train ids that it is scored over.

        Raises:
            ValueError, FileNotFoundError: a data set, option or folder that is not there.
        """
        dataset = self._open(name, split, on_bad_sample)
        for remark in dataset.remarks:
            rank_zero_warn(f"domain {name!r}: {remark}")
        scored = dataset.scored_classes
        if self.limit is None or self.limit >= len(dataset):
            return dataset, scored
        rank_zero_info(f"domain {name!r}: {self.limit} of the {len(dataset)} images of split {dataset.split!r}")
        chosen = np.linspace(0, len(dataset) - 1, self.limit).round().astype(int)
        return Subset(dataset, chosen.tolist()), scored

    def _open(self, name: str, split: str, on_bad_sample: OnBadSample) -> SegmentationDataset:
        key = self.dataset or name
        if key not in DATASETS:
            raise ValueError(f"there is no data set {key!r}; choose one of {', '.join(DATASETS)} (domain.dataset)")
        maker = DATASETS[key]
        kind = getattr(maker, "func", maker)
        chosen = getattr(self, f"{split}_split") or getattr(kind, f"{split}_split")
        known = inspect.signature(maker).parameters
        unknown = set(self.options) - set(known)
        if unknown:
            raise ValueError(f"data set {key!r} has no option {', '.join(sorted(unknown))}")
        given = {"root": self.root, "split": chosen, "domain": name, "on_bad_sample": on_bad_sample} | self.options
        missing = [
            option for option in known if known[option].default is inspect.Parameter.empty and option not in given
        ]
        if missing:
            raise ValueError(f"data set {key!r} needs the options {', '.join(missing)} (domain.options)")
        return maker(**{option: value for option, value in given.items() if option in known})
