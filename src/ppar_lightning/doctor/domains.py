"""The splits of a config's domains: whether they open, and a sample of their pairs, decoded."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.dataset import FolderDataset, SegmentationDataset
from ppar_lightning.data.domain import Domain
from ppar_lightning.data.split import Split
from ppar_lightning.doctor.finding import Finding, Level, fault
from ppar_lightning.images.classes import CLASSES
from ppar_lightning.images.drawing import TILE, Picture, fit, overlay

ALONE = "extract its counterpart again, move it away, or set --data.on_bad_sample skip"
LEFT_OUT = "it is left out, extract its counterpart again"


@dataclass
class SplitCheck:
    """A split that a run reads, and what was found out about it.

    Attributes:
        group: Where the config names the domain, ``sources`` or ``unseen``.
        name: The domain's.
        role: ``train`` or ``eval``.
        domain: As the config writes it.
        protocol: How it is scored.
        images: Number of pairs that a run reads; None where it does not open.
        findings: The lines to be said.
        pixels: (256,) pixels of each train id in the samples.
        sizes: (height, width) of the samples.
        resized: Samples whose label file is not of their image's size.
        tiles: Caption and overlay of each sample.
    """

    group: Literal["sources", "unseen"]
    name: str
    role: Literal["train", "eval"]
    domain: Domain
    protocol: str
    images: int | None = None
    findings: list[Finding] = field(default_factory=list)
    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    sizes: set[tuple[int, int]] = field(default_factory=set)
    resized: int = 0
    tiles: list[tuple[str, Picture]] = field(default_factory=list)

    @property
    def option(self) -> str:
        """The option of the command line that its settings are under."""
        return f"--data.{self.group}.{self.name}"

    def add(self, level: Level, message: str, topic: str = "") -> None:
        """Note a finding."""
        self.findings.append(Finding(level, f"{self.name}/{self.role}{topic}", message))


def splits(data: DomainDataModule) -> Iterator[SplitCheck]:
    """Go through the splits of a run: of a source the one to train on and the one to score on, then the unseen."""
    for name, domain in data.sources.items():
        yield SplitCheck("sources", name, "train", domain, data.protocols[name])
        yield SplitCheck("sources", name, "eval", domain, data.protocols[name])
    for name, domain in data.unseen.items():
        yield SplitCheck("unseen", name, "eval", domain, data.protocols[name])


def open_split(split: SplitCheck, bad: Level) -> Split | None:
    """Open a split and note what there is to say of its folder.

    Args:
        split: What to open; its `images` and `findings` are filled in.
        bad: Level of a file without its counterpart.

    Returns:
        The data set, without such files; None where it does not open, or is empty.
    """
    try:
        dataset = split.domain.open(split.name, split.role, split.protocol, "skip")  # and list all there are
    except Exception as error:  # whatever it is, the other domains are still to be looked at
        split.add("error", f"{fault(error)} (settings: {split.option})")
        return None
    split.images = len(dataset)
    whole = dataset.whole
    split.add("ok" if split.images else "error", _describe(whole, split.images))
    unpaired = whole.unpaired if isinstance(whole, FolderDataset) else []
    for remark in whole.remarks:
        if not unpaired or unpaired[0] not in remark:  # their number follows from the lines below
            split.add("note", remark)
    for line in unpaired:
        split.add(bad, f"{line}; {LEFT_OUT if bad == 'note' else ALONE}", " pairs")
    return dataset if split.images else None


def decode(split: SplitCheck, dataset: Split, index: int, bad: Level) -> float | None:
    """Read a sample, count its pixels and draw it.

    Args:
        split: Where the result goes.
        dataset: The split's.
        index: Of the sample.
        bad: Level of a sample that cannot be read.

    Returns:
        Seconds that reading took; None if it failed.
    """
    start = time.perf_counter()
    try:
        sample = dataset[index]
        seconds = time.perf_counter() - start
        split.resized += _is_resized(dataset, index)
    except Exception as error:  # as above
        split.add(bad, fault(error), " samples")
        return None
    image, label = sample["image"], sample["label"]
    split.pixels += np.bincount(label.ravel(), minlength=256)
    split.sizes.add(image.shape[:2])
    split.tiles.append((f"{split.role} {sample['name']}", overlay(fit(image, TILE), fit(label, TILE, sharp=True))))
    return seconds


def _is_resized(dataset: Split, index: int) -> bool:
    """Whether the headers of a sample's two files name different sizes."""
    whole, indices = dataset.whole, dataset.indices
    if not isinstance(whole, FolderDataset):
        return False
    image, label = whole.pairs[indices[index]]
    with Image.open(image) as first, Image.open(label) as second:
        return first.size != second.size


def sample_indices(length: int, samples: int) -> list[int]:
    """Choose evenly spaced indices, all of them if there are no more than that."""
    return sorted(set(np.linspace(0, length - 1, min(samples, length)).round().astype(int).tolist()))


def judge_samples(split: SplitCheck, seconds: list[float | None]) -> None:
    """Note how long reading took, and what the samples show together."""
    taken = [value for value in seconds if value is not None]
    if not taken:
        split.add("error", "none of the samples can be read; look at the folder", " samples")
        return
    sizes = [f"{width}x{height}" for height, width in sorted(split.sizes)]
    shown = sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"
    split.add("ok", f"{len(taken)} pairs decoded in {1000 * np.mean(taken):.1f} ms each, {shown}", " samples")
    if not split.pixels[: len(CLASSES)].any():
        remedy = f"look at the label files, or choose another split with {split.option}.{split.role}_split"
        split.add("note", f"the samples hold ignored pixels only; {remedy}", " samples")
    if split.resized:
        message = f"labels of another size than their image, resized to it: {split.resized} of {len(taken)}"
        split.add("note", message, " samples")


def _describe(dataset: SegmentationDataset, images: int) -> str:
    known = dataset.counts.get(dataset.split)
    count = f"{images:,} of {len(dataset):,}" if images < len(dataset) else f"{images:,}"
    text = f"{count} images of split {dataset.split!r}" + (f" ({known:,} are known)" if known else "")
    if not isinstance(dataset, FolderDataset):
        return f"{text}, rendered"
    text += f" in {dataset.root}: {dataset.layout.expected(dataset.split)}"
    return text if images else f"{text}; extract the missing files, or choose another split"
