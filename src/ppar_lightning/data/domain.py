"""The description of a domain in a config."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentError, ArgumentParser

from ppar_lightning.data.dataset import FolderDataset, OnBadSample
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.protocols import find_protocol, protocol_title, protocol_window
from ppar_lightning.data.split import Split
from ppar_lightning.images.classes import CITYSCAPES, ClassList
from ppar_lightning.images.tta import ONE_COPY, TTA
from ppar_lightning.images.window import Window

SETTINGS = ("root", "split", "domain", "on_bad_sample", "target")
"""Arguments of a data set that the domain sets itself, so they are not options."""


@dataclass(frozen=True)
class Domain:
    """The data set, folder and splits of a domain.

    Attributes:
        dataset: Name of the data set; by default the name of the domain.
        root: Folder of the download (`~` is the home folder); rendered data sets have none.
        train_split: Split to train on; by default the data set's.
        eval_split: Split to score on; by default the data set's.
        protocol: Name of the protocol it is scored by; by default `data.protocol`.
        limit: Use only this many images (at least 1), evenly spaced over the split.
        options: Further arguments of the data set.
        mapping: Class of its labels -> class of `data.classes` or `ignore`, where neither name nor group is the same.
        weight: For a source, its share of the draws relative to the weights of the other sources, above 0. By default,
            the share is proportional to the number of images.
    """

    dataset: str | None = None
    root: str | None = None
    train_split: str | None = None
    eval_split: str | None = None
    protocol: str | None = None
    limit: int | None = None
    options: dict[str, str | bool | int | float | list | dict | None] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)
    weight: float | None = None

    def split(self, name: str, split: str) -> str:
        """Return the name of the split that `train` or `eval` stands for.

        Raises:
            ValueError: There is no such data set.
        """
        key = self.dataset or name
        if key not in DATASETS:
            raise ValueError(f"there is no data set {key!r}; choose one of {', '.join(DATASETS)} (domain.dataset)")
        return getattr(self, f"{split}_split") or getattr(self._kind(name), f"{split}_split")

    def rendered(self, name: str) -> bool:
        """Return whether this package renders the images; False if there is no such data set."""
        return getattr(self._kind(name), "rendered", False)

    def _kind(self, name: str) -> Any:
        maker = DATASETS.get(self.dataset or name)
        return getattr(maker, "func", maker)

    def open(
        self,
        name: str,
        split: str,
        protocol: str = "full",
        on_bad_sample: OnBadSample = "raise",
        window: Window | None = None,
        tta: TTA = ONE_COPY,
        classes: ClassList = CITYSCAPES,
    ) -> Split:
        """Open a split.

        Args:
            name: Name of the domain.
            split: `train` or `eval`, which stands for `train_split` or `eval_split`.
            protocol: Name of the protocol. Its table of ids is used for both splits, its resizing only for `eval`.
            on_bad_sample: Whether files without a counterpart raise an error or are left out.
            window: Sliding window for protocol `full`.
            tta: Copies of each image that are segmented.
            classes: The classes whose train ids the samples hold.

        Raises:
            ValueError, FileNotFoundError: The data set, option or folder does not exist, or the limit is below 1.
        """
        chosen, key, found = self.split(name, split), self.dataset or name, find_protocol(protocol)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least 1, or leave it out")
        root = None if self.root is None else Path(self.root).expanduser()
        given = {"root": root, "split": chosen, "domain": name} | self._options(name, found.options.get(key, {}))
        known, files = inspect.signature(DATASETS[key]).parameters, issubclass(self._kind(name), FolderDataset)
        settings = {"on_bad_sample": on_bad_sample, "target": classes}
        given |= {option: value for option, value in settings.items() if files or option in known}
        opened = DATASETS[key](**given)
        indices: Sequence[int] = range(len(opened))
        if self.limit is not None and self.limit < len(opened):
            indices = np.linspace(0, len(opened) - 1, self.limit).round().astype(int).tolist()
        view = found.views.get(key) if split == "eval" else None
        title, slid = protocol_title(protocol, window, tta), protocol_window(protocol, window)
        return Split(opened, indices, view, slid, title, tta.copies, classes=classes, mapping=self.mapping)

    def _options(self, name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the data set, checked by the types of its constructor's arguments."""
        key, parser = self.dataset or name, ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(self._kind(name), skip={*SETTINGS, *getattr(DATASETS[key], "keywords", ())})
        try:
            return vars(parser.parse_object({**defaults, **self.options}))
        except ArgumentError as error:
            takes = ", ".join(vars(parser.get_defaults())) or "none"
            fault = " ".join(str(error).partition("Errors:")[0].split())  # of each type that it is not
            raise ValueError(f"options of data set {key!r}: {fault}; it takes {takes}") from error
