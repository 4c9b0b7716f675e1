"""What a run reads of one domain: chosen images of a data set, as a protocol shows them."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from ppar_lightning.data.dataset import Sample, SegmentationDataset, Skipped
from ppar_lightning.data.protocols import View
from ppar_lightning.images.classes import IGNORE

SIDE = 64
"""Height and width of a placeholder: small, and large enough for every backbone."""

PADDING = -1
"""Index of a placeholder. It fills up a rank whose share of an evaluation is smaller than another's."""


class Split(Dataset[Sample]):
    """The samples that a run reads of one domain.

    Args:
        whole: The data set.
        indices: The images of it that are read; None reads all.
        view: What the protocol makes of image and label.
        window: Size and stride of the inference window; None takes the image whole.
        protocol: Name of the protocol as it is shown beside figures.
        skip: Whether a sample that cannot be read becomes a placeholder with the error instead of raising it.
    """

    def __init__(
        self,
        whole: SegmentationDataset,
        indices: Sequence[int] | None = None,
        view: View | None = None,
        window: tuple[int, int] | None = None,
        protocol: str = "full",
        skip: bool = False,
    ) -> None:
        self.whole = whole
        self.indices = range(len(whole)) if indices is None else indices
        self.view = view
        self.window = window
        self.protocol = protocol
        self.skip = skip

    @property
    def domain(self) -> str:
        """Name of the domain."""
        return self.whole.domain

    @property
    def scored_classes(self) -> tuple[int, ...]:
        """Train ids that the domain's mIoU is taken over."""
        return self.whole.scored_classes

    def name(self, index: int) -> str:
        """Name of a sample, without reading it."""
        return self.whole.name(self.indices[index])

    def __len__(self) -> int:
        """Number of samples, without padding."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample, or make a placeholder for index PADDING. A view may give image and label different sizes.

        Raises:
            ValueError, OSError: The sample cannot be read, unless `skip` is set.
        """
        if index == PADDING:
            return self._placeholder([])
        try:
            sample = self.whole[self.indices[index]]
        except (ValueError, OSError) as error:
            if not self.skip:
                raise
            return self._placeholder([Skipped(self.domain, self.name(index), str(error))])
        if self.view is not None:
            sample["image"], sample["label"] = self.view(sample["image"], sample["label"])
        return self._labelled(sample)

    def _placeholder(self, errors: list[Skipped]) -> Sample:
        image, label = np.zeros((SIDE, SIDE, 3), dtype=np.uint8), np.full((SIDE, SIDE), IGNORE, dtype=np.uint8)
        name = errors[0].name if errors else "padding"
        return self._labelled(
            {"image": image, "label": label, "name": name, "domain": self.domain, "error": errors, "padding": True}
        )

    def _labelled(self, sample: Sample) -> Sample:
        return {**sample, "window": self.window, "protocol": self.protocol}
