"""Base classes of data sets: labelled images of one domain, from files or rendered."""

import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, NotRequired, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from ppar_lightning.data.layout import Layout
from ppar_lightning.images import decoding
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, ClassList
from ppar_lightning.images.decoding import EXPORT, WRONG_ROOT, Array, resize
from ppar_lightning.images.tta import Copy
from ppar_lightning.images.variation import Variation

OnBadSample = Literal["raise", "skip"]
"""What happens with a file that cannot be read or has no counterpart: it ends the run, or is left out and listed."""


class Skipped(NamedTuple):
    """A sample that was left out, and why."""

    domain: str
    name: str
    message: str
    """One line that names the file and the remedy."""


class Sample(TypedDict):
    """A sample: `image` (H, W, 3) uint8 RGB, `label` (H, W) uint8 train ids or IGNORE, `name` unique in its `domain`.

    Attributes:
        error: The samples that could not be read and that this one replaces.
        padding: Whether this is a placeholder, all IGNORE, which is not scored.
        window: Size and stride of its protocol's sliding window; None segments the whole image at once.
        tta: Scale of each copy that is segmented, and whether it is mirrored; empty segments the image as it is.
        protocol: Name of the protocol that it is scored by.
        variation: The flip, colours and blur of a training sample, which are applied on the device; None without any.
    """

    image: Array
    label: Array
    name: str
    domain: str
    error: list[Skipped]
    padding: NotRequired[bool]
    window: NotRequired[tuple[int, int] | None]
    tta: NotRequired[tuple[Copy, ...]]
    protocol: NotRequired[str]
    variation: NotRequired[Variation | None]


class SegmentationDataset(Dataset[Sample], ABC):
    """Labelled images of one domain.

    A subclass implements the number of images and the reading of one. Its constructor takes `root`, `split` and
    `domain`, unless it is `rendered` also `on_bad_sample` and `target`, and its own options.
    """

    labelled_in: ClassList = CITYSCAPES
    """The classes whose train ids its labels hold; `Split` maps them to those of a run."""
    scored_classes: Sequence[str] = CITYSCAPES
    """Names of those that occur, over which its mIoU is averaged."""
    counts: ClassVar[Mapping[str, int]] = {}
    """Split -> known number of labelled images."""
    train_split: ClassVar[str] = "train"
    eval_split: ClassVar[str] = "val"
    rendered: ClassVar[bool] = False
    """Whether this package renders the images."""
    code: bytes = b""
    """What the values in label files mean, to be hashed; the same in all versions."""
    names: Sequence[str] = ()
    """Names of the samples; without them, a sample is called by its number."""
    unpaired: Sequence[str] = ()
    """One line for each file without a counterpart."""

    def __init__(self, split: str, domain: str) -> None:
        self.split = split
        self.domain = domain
        self.remarks: list[str] = []
        """Warnings, one line each with a remedy, that do not stop a run."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of labelled images in the split."""

    @abstractmethod
    def read(self, index: int) -> tuple[Array, Array, str]:
        """Return image (H, W, 3) uint8 RGB, label (H, W) uint8 train ids, and a name that is unique in the data set."""

    def read_label(self, index: int) -> Array:
        """Return only the label, (H, W) uint8 train ids, at the size of its file."""
        return self.read(index)[1]

    def name(self, index: int) -> str:
        """Return the name that `read` would return, without reading."""
        return self.names[index] if self.names else f"{self.split}/{index:05d}"

    def image_key(self, index: int) -> Hashable:
        """Return a value that is equal for two samples, of any two data sets, if they show the same image."""
        return type(self).__name__, self.name(index)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; see `Sample` for shapes."""
        image, label, name = self.read(index)
        return {"image": image, "label": label, "name": name, "domain": self.domain, "error": []}


class FolderDataset(SegmentationDataset):
    """Pairs of image and label files in a folder, read as they were downloaded.

    Args:
        root: Folder of the download.
        split: Name of a split of the data set.
        domain: Name of the domain, which its samples carry.
        on_bad_sample: `raise`, or `skip` to leave out the split's files without a counterpart and list them in
            `unpaired`.
        target: Classes of the run.

    Raises:
        ValueError: The data set has no such split.
        FileNotFoundError: There is no such folder, it has no known layout, or a file of the split has no counterpart.
    """

    layouts: tuple[Layout, ...]
    """Known layouts; the first one with images and labels is used."""
    splits: ClassVar[tuple[str, ...]] = ()
    """Names of the splits, if the splits are not folders."""
    own_classes: ClassVar[ClassList | None] = None
    """Classes of its own in the order of their ids, before an unlabelled one: labels are in them if the run's are."""
    resize_labels: ClassVar[bool] = False
    """Whether a label whose size differs from its image is resized to it (nearest pixel) instead of being an error."""
    id_remedy: str = WRONG_ROOT
    """Remedy that the error for a label value outside the table names."""
    colour_remedy: str = EXPORT
    """Remedy that the error for a label in colours names."""

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        on_bad_sample: OnBadSample = "raise",
        target: ClassList = CITYSCAPES,
    ) -> None:
        super().__init__(split, domain)
        if self.own_classes and self.own_classes.names == target.names:
            self.labelled_in = self.scored_classes = self.own_classes
            ids = dict(enumerate(range(len(target)))) | {len(target): IGNORE}
            self.layouts = tuple(replace(layout, ids=ids) for layout in self.layouts)
        if self.splits and split not in self.splits:
            raise ValueError(f"{type(self).__name__} has no split {split!r}; choose one of {', '.join(self.splits)}")
        expected = ", or ".join(layout.expected(split) for layout in self.layouts)
        if root is None or not Path(root).is_dir():
            raise FileNotFoundError(f"root is {root}, which is no folder; expected one with {expected}")
        self.root = Path(root)
        for layout in self.layouts:
            found = layout.files(self.root, split)
            if all(found):
                break
        else:
            raise FileNotFoundError(f"no labelled images of split {split!r} in {root}; expected {expected}")
        names = found[0].keys() | found[1].keys()
        listed = set(self.select(sorted(names)))
        chosen, absent = sorted(names & listed), sorted(listed - names)
        known = self.counts.get(split, len(chosen))
        if absent or len(chosen) != known:
            count = f"{len(chosen)} images of split {split!r} in {root}, {known} are known"
            first = f", and {absent[0]} is listed but absent" if absent else ""
            self.remarks.append(f"{count}{first}; extract the rest, or get the whole list, unless only a part is meant")
        images, labels = ({name: files[name] for name in chosen if name in files} for files in found)
        lonely = [f"{path} has no label" for name, path in images.items() if name not in labels]
        self.unpaired = lonely + [f"{path} has no image" for name, path in labels.items() if name not in images]
        if self.unpaired:
            files = len(images) + len(labels)
            fault = f"{self.unpaired[0]} ({len(self.unpaired)} of {files} files have no counterpart)"
            if len(self.unpaired) == files:
                raise FileNotFoundError(f"{fault}; give an image and its label one name: {expected}")
            if on_bad_sample == "raise":
                remedy = "extract the missing ones again, or move such files away"
                raise FileNotFoundError(f"{fault}; {remedy}; in training, --data.on_bad_sample skip leaves them out")
            self.remarks.append(f"{fault} and left out; extract the missing ones again")
        self.names = [name for name in images if name in labels]
        self.pairs = [(images[name], labels[name]) for name in self.names]
        self.layout, self.table = layout, decoding.lookup_table(layout.ids)
        self.code = self.table.astype(np.uint8).tobytes()

    def select(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names of `self.split`: here all, in a data set with lists those that its list contains."""
        return names

    def decode_label(self, path: Path) -> npt.NDArray[np.integer]:
        """Read a label file: (H, W) label ids, as they are stored."""
        return decoding.read_label(path, self.colour_remedy)

    def read_label(self, index: int) -> Array:
        """Return the label of a sample at the size of its file: (H, W) uint8 train ids or IGNORE.

        Raises:
            ValueError: The file is damaged, or an id is outside the table.
        """
        path = self.pairs[index][1]
        return decoding.to_train_ids(self.decode_label(path), self.table, path, self.id_remedy)

    def __len__(self) -> int:
        """Number of labelled images in the split."""
        return len(self.pairs)

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Decode an image and its label.

        Raises:
            ValueError: A file is damaged, an id is outside the table, or image and label differ in size.
        """
        image_path, label_path = self.pairs[index]
        image, label = decoding.read_image(image_path), self.read_label(index)
        (height, width), (rows, columns) = image.shape[:2], label.shape
        if (height, width) != (rows, columns):
            turned = (rows, columns) == (width, height) and decoding.is_turned(image_path)
            remedy = "put a label of the image's size in its place, resized to the nearest pixel"
            if turned:
                remedy = "the image's orientation tag turns it; turn the label, or save the image without the tag"
            if turned or not self.resize_labels:
                raise ValueError(f"{image_path} is {width}x{height} but {label_path} is {columns}x{rows}; {remedy}")
            label = resize(label, (height, width), cv2.INTER_NEAREST_EXACT)
        return image, label, self.names[index]

    def image_key(self, index: int) -> Hashable:
        """Return the path of the image, with links resolved."""
        return os.path.realpath(self.pairs[index][0])
