"""The splits of a config's domains: checks whether they open, and decodes a sample of their pairs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.split import Split
from ppar_lightning.data.statistics import refuse_unlabelled
from ppar_lightning.doctor.finding import Finding, Level, attempt, fault
from ppar_lightning.images.classes import ClassList
from ppar_lightning.images.decoding import is_turned
from ppar_lightning.images.drawing import TILE, Picture, fit, overlay

ALONE = "extract its counterpart again, or move it away; in training, --data.on_bad_sample skip leaves it out"


@dataclass
class SplitCheck:
    """A split that a run reads, and the findings about it.

    Attributes:
        option: Path of the domain's options, such as ``--data.sources.gta``.
        name: Name of the domain.
        role: ``train`` or ``eval``.
        opened: Function that opens the split, without files that lack a counterpart.
        classes: Classes of the run.
        bad: Level of a file that cannot be read or has no counterpart.
        split: The pairs that a run reads; None if it does not open.
        findings: The findings so far.
        pixels: (256,) pixels of each train id in the samples.
        seconds: Time that reading each sample took.
        sizes: (height, width) of the samples.
        turned: Number of samples whose image has an orientation tag that turns it.
        tiles: Caption and overlay of each sample.
    """

    option: str
    name: str
    role: Literal["train", "eval"]
    opened: Callable[[], Split]
    classes: ClassList
    bad: Level
    split: Split | None = None
    findings: list[Finding] = field(default_factory=list)
    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    seconds: list[float] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    turned: int = 0
    tiles: list[tuple[str, Picture]] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """Subject of the findings, such as ``gta/train``."""
        return f"{self.name}/{self.role}"

    def add(self, level: Level, message: str, topic: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(level, self.subject + topic, message))

    def open(self) -> Split | None:
        """Open the split, and add findings about its folder.

        Returns:
            The split without files that lack a counterpart; None if it does not open or is empty.
        """
        try:
            dataset = self.opened()
        except Exception as error:  # whatever it is, the other domains are still to be looked at
            self.add("error", f"{fault(error)} (settings: {self.option})")
            return None
        self.split = dataset
        self.add("ok" if len(dataset) else "error", describe(dataset))
        for remark in dataset.remarks:
            self.add("note", remark)
        for line in dataset.whole.unpaired:
            self.add(self.bad, f"{line}; {ALONE}", " pairs")
        return dataset if len(dataset) else None

    def decode(self, dataset: Split, index: int) -> None:
        """Read a sample, count its pixels and draw it, or add a finding if it cannot be read."""
        start = time.perf_counter()
        try:
            sample = dataset[index]
        except Exception as error:  # as above
            self.add(self.bad, fault(error), " samples")
            return
        self.seconds.append(time.perf_counter() - start)
        if isinstance(dataset.whole, FolderDataset):
            self.turned += is_turned(dataset.whole.pairs[dataset.indices[index]][0])
        image, label = sample["image"], sample["label"]
        self.pixels += np.bincount(label.ravel(), minlength=256)
        self.sizes.add(image.shape[:2])
        drawn = overlay(fit(image, TILE), fit(label, TILE, sharp=True), self.classes)
        self.tiles.append((f"{self.role} {sample['name']}", drawn))

    def judge(self, dataset: Split) -> None:
        """Add findings about the decoding time and about all samples together."""
        if not self.seconds:
            self.add("error", "none of the samples can be read; look at the folder", " samples")
            return
        sizes = [f"{width}x{height}" for height, width in sorted(self.sizes)]
        shown = f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}" if sizes[1:] else sizes[0]
        taken, mean = len(self.seconds), 1000 * np.mean(self.seconds)
        self.add("ok", f"{taken} pairs decoded in {mean:.1f} ms each, {shown}", " samples")
        if not self.pixels[: len(self.classes)].any():
            self.findings += attempt(f"{self.subject} samples", lambda: refuse_unlabelled(dataset))
        present = np.flatnonzero(self.pixels[: len(self.classes)])
        if len(present) == 1:
            only = f"no other class than {self.classes[present[0]]} occurs in the samples"
            ignored = f"{self.pixels[len(self.classes) :].sum() / self.pixels.sum():.0%} of the pixels are ignored"
            self.add(
                "note", f"{only}, and {ignored}; if ids are missing, as of masks of 0 and 255, give them", " samples"
            )
        if self.turned:
            tags = f"{self.turned} of {taken} images have an orientation tag and are read upright"
            self.add("note", f"{tags}; see in {self.name}.png that their labels are upright too", " samples")


def splits(data: DomainDataModule, validated: bool = True) -> Iterator[SplitCheck]:
    """List the splits of a run: of a source the one to train on and the one to score on, then the unseen domains.

    Args:
        data: The data module, which opens nothing.
        validated: Whether the training scores its sources.
    """
    bad: Level = "note" if data.on_bad_sample == "skip" else "error"
    for name, domain in (data.sources | data.unseen).items():
        option = f"--data.{'sources' if name in data.sources else 'unseen'}.{name}"
        read = partial(domain.open, name, protocol=data.protocols[name], on_bad_sample="skip", classes=data.classes)
        if name in data.sources:
            yield SplitCheck(option, name, "train", partial(read, split="train"), data.classes, bad)
        if validated or name not in data.sources:
            yield SplitCheck(option, name, "eval", partial(read, split="eval"), data.classes, "error")


def describe(dataset: Split) -> str:
    """Describe a split: its number of images, the known number, and its folder."""
    whole, images = dataset.whole, len(dataset)
    known = whole.counts.get(whole.split)
    count = f"{images:,} of {len(whole):,}" if images < len(whole) else f"{images:,}"
    text = f"{count} images of split {whole.split!r}" + (f" ({known:,} are known)" if known else "")
    if not isinstance(whole, FolderDataset):
        return f"{text}, rendered"
    text += f" in {whole.root}: {whole.layout.expected(whole.split)}"
    return text if images else f"{text}; extract the missing files, or choose another split"
