"""A domain as a config writes it."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ppar_lightning.data.dataset import OnBadSample, SegmentationDataset
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.protocols import find_protocol, protocol_title, protocol_window
from ppar_lightning.data.split import Split
from ppar_lightning.images.window import Window

SETTINGS = ("root", "split", "domain", "on_bad_sample")
"""Arguments of a data set that are no options, as a domain gives them itself."""


@dataclass(frozen=True)
class Domain:
    """Where a domain's images come from.

    Attributes:
        dataset: name of the data set; by default the domain's own name.
        root: folder of the download, `~` being the home; rendered data sets have none.
        train_split: split to train on; by default the data set's own.
        eval_split: split to score on; by default the data set's own.
        protocol: how it is scored, by name; by default as `data.protocol` says.
        limit: use only this many images, at least 1, evenly spaced over the split.
        options: further arguments of the data set.
        weight: of a source, expected share of the draws among the sources' weights; by default as large as the source.
    """

    dataset: str | None = None
    root: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    protocol: str | None = None
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weight: float | None = None

    def split(self, name: str, split: str) -> str:
        """Name of the split that `train` or `eval` stands for.

        Raises:
            ValueError: there is no such data set.
        """
        key = self.dataset or name
        if key not in DATASETS:
            raise ValueError(f"there is no data set {key!r}; choose one of {', '.join(DATASETS)} (domain.dataset)")
        kind = getattr(DATASETS[key], "func", DATASETS[key])
        return getattr(self, f"{split}_split") or getattr(kind, f"{split}_split")

    def open(
        self,
        name: str,
        split: str,
        protocol: str = "full",
        on_bad_sample: OnBadSample = "raise",
        window: Window | None = None,
    ) -> Split:
        """Open a split, and warn of what the data set remarks.

        Args:
            name: the domain's name.
            split: `train` or `eval`, which stands for `train_split` or `eval_split`.
            protocol: how it is scored; its table of ids holds for both splits, its sizes for `eval` alone.
            on_bad_sample: what files without a counterpart do, in data sets that read files.
            window: window of the inference, for protocol `full`.

        Raises:
            ValueError, FileNotFoundError: a data set, option or folder that is not there, or a limit below 1.
        """
        key = self.dataset or name
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least 1, or leave it out")
        found = find_protocol(protocol)
        opened = self._open(name, split, {"on_bad_sample": on_bad_sample, **found.options.get(key, {})})
        for remark in opened.remarks:
            rank_zero_warn(f"domain {name!r}: {remark}")
        indices = None
        if self.limit is not None and self.limit < len(opened):
            rank_zero_info(f"domain {name!r}: {self.limit} of the {len(opened)} images of split {opened.split!r}")
            indices = np.linspace(0, len(opened) - 1, self.limit).round().astype(int).tolist()
        view = found.views.get(key) if split == "eval" else None
        return Split(opened, indices, view, protocol_window(protocol, window), protocol_title(protocol, window))

    def _open(self, name: str, split: str, defaults: dict[str, Any]) -> SegmentationDataset:
        chosen = self.split(name, split)
        key = self.dataset or name
        maker = DATASETS[key]
        known = inspect.signature(maker).parameters
        own = [option for option in known if option not in SETTINGS]
        unknown = set(self.options) - set(own)
        if unknown:
            raise ValueError(
                f"data set {key!r} has no option {', '.join(sorted(unknown))}; it has {', '.join(own) or 'none'}"
            )
        root = None if self.root is None else Path(self.root).expanduser()
        given = {"root": root, "split": chosen, "domain": name} | defaults | self.options
        missing = [
            option for option in known if known[option].default is inspect.Parameter.empty and option not in given
        ]
        if missing:
            raise ValueError(f"data set {key!r} needs the options {', '.join(missing)} (domain.options)")
        try:
            return maker(**{option: value for option, value in given.items() if option in known})
        except TypeError as error:
            raise ValueError(f"data set {key!r} does not take options {self.options} ({error})") from error
