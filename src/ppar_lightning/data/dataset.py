"""What a data set is: labelled images of one domain, from files or rendered."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypedDict

import cv2
from torch.utils.data import Dataset

from ppar_lightning.data.classes import CLASSES
from ppar_lightning.data.decoding import Array, lookup_table, read_image, read_label, resize, to_train_ids

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class Sample(TypedDict):
    """`image` (H, W, 3) uint8 RGB, `label` (H, W) uint8 train ids or IGNORE, `name` unique in its `domain`."""

    image: Array
    label: Array
    name: str
    domain: str


class SegmentationDataset(Dataset[Sample], ABC):
    """Labelled images of one domain.

    A subclass says how many there are and reads one. Its constructor takes `root`, `split` and `domain`, and whatever
    options it adds after those.
    """

    scored_classes: ClassVar[tuple[int, ...]] = tuple(range(len(CLASSES)))
    """Train ids that the data set labels; its mIoU is taken over these."""
    counts: ClassVar[Mapping[str, int]] = {}
    """Split -> the known number of its labelled images."""
    train_split: ClassVar[str] = "train"
    eval_split: ClassVar[str] = "val"

    def __init__(self, split: str, domain: str) -> None:
        self.split = split
        self.domain = domain
        self.remarks: list[str] = []
        """Findings of one line, each with its remedy, that do not stop a run."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of labelled images in the split."""

    @abstractmethod
    def read(self, index: int) -> tuple[Array, Array, str]:
        """Image (H, W, 3) uint8 RGB, label (H, W) uint8 train ids, and a name that is unique in the data set."""

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; see `Sample` for shapes."""
        image, label, name = self.read(index)
        return {"image": image, "label": label, "name": name, "domain": self.domain}


@dataclass(frozen=True)
class Layout:
    """Where a download keeps its files.

    `images` and `labels` are paths under the root. `*` stands for a sample's name, folders included, and is the same
    in both; `{split}` for the split. Images may also be .jpg where the download has .png, and the other way round.
    """

    images: str
    labels: str
    ids: Mapping[int, int]
    """Label id -> train id, for every id that the files may hold."""


class FolderDataset(SegmentationDataset):
    """Pairs of image and label files in a folder, read as they were downloaded.

    Args:
        root: folder of the download.
        split: name of a split, as the data set calls it.
        domain: the name its samples carry.
        on_bad_sample: `raise`, or `skip` to leave files without a counterpart out and list them in `unpaired`.

    Raises:
        FileNotFoundError: no folder, nothing in a known layout, or an image or label without its counterpart.
    """

    layouts: tuple[Layout, ...]
    """Known layouts; the first one with images and labels is taken."""
    resize_labels: ClassVar[bool] = False
    """Whether a label of another size is resized to its image (nearest) instead of being an error."""

    def __init__(
        self, root: str | Path | None, split: str, domain: str, on_bad_sample: Literal["raise", "skip"] = "raise"
    ) -> None:
        super().__init__(split, domain)
        if root is None or not Path(root).is_dir():
            missing = "no folder given" if root is None else f"folder {root} not found"
            raise FileNotFoundError(f"{missing}; expected a folder with {self._expected()}")
        self.root = Path(root)
        self.layout, images, labels = self._find()
        self.unpaired = [f"{path} has no label" for name, path in images.items() if name not in labels]
        self.unpaired += [f"{path} has no image" for name, path in labels.items() if name not in images]
        if on_bad_sample == "raise":
            _paired_names(images, labels)
        self.names = self.select([name for name in images if name in labels])
        self.pairs = [(images[name], labels[name]) for name in self.names]
        self.table = lookup_table(self.layout.ids)

    def select(self, names: Sequence[str]) -> list[str]:
        """Choose the names of `self.split`; where a split is a folder of its own, all of them."""
        return list(names)

    def __len__(self) -> int:
        """Number of labelled images in the split."""
        return len(self.pairs)

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Decode a pair.

        Raises:
            ValueError: a damaged file, an id outside the table, or an image and a label of different size.
        """
        image_path, label_path = self.pairs[index]
        image = read_image(image_path)
        label = to_train_ids(read_label(label_path), self.table, label_path)
        (height, width), (label_height, label_width) = image.shape[:2], label.shape
        if (height, width) != (label_height, label_width):
            if not self.resize_labels:
                raise ValueError(
                    f"{image_path} is {width}x{height} but {label_path} is {label_width}x{label_height}; "
                    "they must have one size: extract both again"
                )
            label = resize(label, (height, width), cv2.INTER_NEAREST_EXACT)
        return image, label, self.names[index]

    def _find(self) -> tuple[Layout, dict[str, Path], dict[str, Path]]:
        for layout in self.layouts:
            images = _files(self.root, layout.images.format(split=self.split), IMAGE_SUFFIXES)
            labels = _files(self.root, layout.labels.format(split=self.split), (".png",))
            if images and labels:
                return layout, images, labels
        raise FileNotFoundError(
            f"no labelled images of split {self.split!r} in folder {self.root}; expected {self._expected()}"
        )

    def _expected(self) -> str:
        pairs = (f"{layout.images} and {layout.labels}" for layout in self.layouts)
        return ", or ".join(pairs).format(split=self.split)


def _files(root: Path, pattern: str, suffixes: Sequence[str]) -> dict[str, Path]:
    """Name -> file, sorted by name, for the files of a `Layout` pattern."""
    folder, _, ending = Path(pattern).with_suffix("").as_posix().partition("*")
    found: dict[str, Path] = {}
    for parent, _, filenames in os.walk(root / folder, followlinks=True):
        for filename in filenames:
            path = Path(parent, filename)
            if path.suffix in suffixes and path.stem.endswith(ending):
                name = path.relative_to(root / folder).with_suffix("").as_posix().removesuffix(ending)
                if name in found:
                    raise ValueError(f"{found[name]} and {path} are one sample; remove one of them")
                found[name] = path
    return dict(sorted(found.items()))


def _paired_names(images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[str]:
    for have, others, kind, other in ((images, labels, "image", "label"), (labels, images, "label", "image")):
        alone = [name for name in have if name not in others]
        if alone:
            raise FileNotFoundError(
                f"{have[alone[0]]} has no {other} ({len(alone)} of {len(have)} {kind}s); "
                f"extract the {other}s again, or move such {kind}s away"
            )
    return list(images)
