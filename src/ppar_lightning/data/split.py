"""The part of a domain that a run reads: chosen images of a data set, resized as its protocol says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from torch.utils.data import Dataset

from ppar_lightning.data.dataset import Sample, SegmentationDataset, Skipped
from ppar_lightning.data.protocols import View
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, ClassList
from ppar_lightning.images.decoding import Array
from ppar_lightning.images.tta import Copy
from ppar_lightning.shortage import shortage

SIDE = 64
"""Height and width of a placeholder: small, and large enough for every backbone."""

PADDING = -1
"""Index of a placeholder, for ranks that have fewer images to evaluate than others."""


@dataclass(eq=False, repr=False)
class Split(Dataset[Sample]):
    """The samples of one domain that a run reads.

    Args:
        whole: The data set.
        indices: Indices of the images that are read.
        view: The protocol's resizing of image and label; None leaves them as they are.
        window: Size and stride of the sliding window; None segments the whole image at once.
        protocol: Title of the protocol, as it is shown beside scores.
        tta: Scale of each copy that is segmented, and whether it is mirrored; empty segments an image as it is.
        skip: Return a placeholder that holds the error if a sample cannot be read, instead of raising the error.
        classes: The classes whose train ids the samples hold.
        mapping: Class of the data set -> class of `classes` or `ignore`, for those that are not mapped by their names.

    Attributes:
        remarks: Those of the data set, and a line about the classes whose pixels are ignored because `classes` lacks
            them.

    Raises:
        ValueError: No class of the data set is among the classes, or the mapping names another class.
    """

    whole: SegmentationDataset
    indices: Sequence[int]
    view: View | None = None
    window: tuple[int, int] | None = None
    protocol: str = "full"
    tta: tuple[Copy, ...] = ()
    skip: bool = False
    classes: ClassList = CITYSCAPES
    mapping: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole, own, mapping = self.whole, self.whole.labelled_in, self.mapping
        ids = dict(zip(own, own.ids_in(self.classes), strict=True))
        known = {name: index for index, name in enumerate(self.classes)} | {"ignore": IGNORE}
        if unknown := [*(mapping.keys() - ids.keys()), *(set(mapping.values()) - known.keys())]:
            raise ValueError(f"mapping knows no class {unknown[0]!r}; map {', '.join(own)} to {', '.join(known)}")
        ids |= {name: known[meaning] for name, meaning in mapping.items()}
        ignored = [name for name in whole.scored_classes if ids[name] == IGNORE]
        self.scored_classes = tuple(sorted({ids[name] for name in whole.scored_classes} - {IGNORE}))
        """Train ids over which the domain's mIoU is averaged."""
        if not self.scored_classes:
            labelled, wanted = (", ".join(names[:3]) for names in (ignored, self.classes))
            remedy = "give --data.classes that names some of its classes or groups, or a mapping in the domain"
            raise ValueError(f"its labels know {labelled} ..., but no class of {wanted} ...; {remedy}")
        ignored = [name for name in ignored if name not in mapping]
        line = f"{', '.join(ignored)}: not among data.classes, so their pixels are ignored"
        self.remarks = [*whole.remarks, *([line] if ignored else [])]
        self.table: Array | None = None
        """(256,) train id of the data set -> train id of `classes`; None if they are the same."""
        if [*ids.values()] != [*range(len(ids))]:
            self.table = np.full(256, IGNORE, dtype=np.uint8)
            self.table[: len(ids)] = [*ids.values()]

    @property
    def domain(self) -> str:
        """Name of the domain."""
        return self.whole.domain

    @property
    def code(self) -> bytes:
        """What the values in label files mean, to be hashed; empty if there are neither files nor a mapping."""
        return self.whole.code + (b"" if self.table is None else self.table.tobytes())

    def name(self, index: int) -> str:
        """Return the name of a sample, without reading it."""
        return self.whole.name(self.indices[index])

    def read_label(self, index: int) -> Array:
        """Return the label of a sample at the size of its file, (H, W) uint8 train ids."""
        return self._mapped(self.whole.read_label(self.indices[index]))

    def __len__(self) -> int:
        """Number of samples, without padding."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample, or make a placeholder for index PADDING. A view may give image and label different sizes.

        Raises:
            ValueError, OSError: The sample cannot be read, unless `skip` is set; or the machine lacks memory or files.
        """
        sample = self._placeholder("padding", []) if index == PADDING else self._read(index)
        return {**sample, "window": self.window, "tta": self.tta, "protocol": self.protocol}

    def _read(self, index: int) -> Sample:
        try:
            sample = self.whole[self.indices[index]]
        except (ValueError, OSError) as error:
            if not self.skip or shortage(error):  # which is no fault of the sample
                raise
            name = self.name(index)
            return self._placeholder(name, [Skipped(self.domain, name, str(error).replace("\n", " "))])
        sample["label"] = self._mapped(sample["label"])
        if self.view is not None:
            sample["image"], sample["label"] = self.view(sample["image"], sample["label"])
        return sample

    def _mapped(self, label: Array) -> Array:
        return label if self.table is None else np.asarray(cv2.LUT(label, self.table), dtype=np.uint8)

    def _placeholder(self, name: str, error: list[Skipped]) -> Sample:
        image, label = np.zeros((SIDE, SIDE, 3), dtype=np.uint8), np.full((SIDE, SIDE), IGNORE, dtype=np.uint8)
        sample: Sample = {"image": image, "label": label, "name": name, "domain": self.domain, "error": error}
        return {**sample, "padding": True}
