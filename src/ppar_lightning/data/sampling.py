"""The order in which samples are read, their distribution over ranks, and the seeds of their augmentation."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
from torch.utils.data import ConcatDataset, Dataset, DistributedSampler

from ppar_lightning.data.dataset import Sample
from ppar_lightning.data.epoch_order import NO_FOCUS, EpochOrder
from ppar_lightning.data.split import PADDING, Split
from ppar_lightning.data.transforms import Augment
from ppar_lightning.distributed import rank, world_size

REPLACEMENTS = 10
"""Number of replacements that are tried for an unreadable image before the run ends."""


class Draw(NamedTuple):
    """A request for one training sample."""

    sample: int
    """Index into the concatenated sources."""
    epoch: int
    position: int
    """Position in the epoch's order, over all ranks."""
    focus: int | None = None
    """Train id that the crop should show."""


class TrainSampler(DistributedSampler[Draw]):
    """The draws of an `EpochOrder`, dealt out to the ranks in turn.

    They depend only on (seed, epoch). In each step, N ranks with batch b see what one rank with batch N b sees.
    It is a DistributedSampler because Lightning leaves such a sampler in place and tells it the epoch.

    Args:
        order: The draws of each epoch.
    """

    def __init__(self, order: EpochOrder) -> None:
        super().__init__(order, num_replicas=world_size(), rank=rank(), drop_last=True)  # type: ignore[arg-type]
        self.order = order
        self.start = 0
        """Number of samples of this rank to skip at the start of the epoch, because they were seen before a restart."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; a new epoch starts at its beginning."""
        if epoch != self.epoch:
            self.start = 0
        super().set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        """Yield this rank's draws of the epoch."""
        samples, focus = self.order.draws(self.epoch)
        start, self.start = self.start, 0
        for position in range(self.rank, self.total_size, self.num_replicas)[start:]:
            wanted = None if focus[position] == NO_FOCUS else int(focus[position])
            yield Draw(int(samples[position]), self.epoch, position, wanted)


class EvaluationSampler(DistributedSampler[int]):
    """All samples in order, each on exactly one rank.

    Ranks with fewer images get PADDING instead of repeated images. Every rank therefore takes the same number of steps,
    which DDP (buffers) and FSDP (parameters) need, and no image is scored twice.
    """

    def __init__(self, split: Split) -> None:
        super().__init__(split, num_replicas=world_size(), rank=rank(), shuffle=False)
        self.length = len(split)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices, then PADDING."""
        share = range(self.rank, self.length, self.num_replicas)
        return chain(share, repeat(PADDING, self.num_samples - len(share)))


class AugmentedDataset(Dataset[Sample]):
    """The sources one after another, augmented.

    An item depends only on (seed, draw), not on the process that reads it or on the global random generators, which the
    model may use freely. Two draws never share random numbers, even for the same image. If a split with `skip` cannot
    read an image, another image of its source takes its place.

    Args:
        splits: The training splits of the sources.
        augment: The augmentation.
        seed: Seed of the augmentation.
    """

    def __init__(self, splits: Sequence[Split], augment: Augment, seed: int) -> None:
        self.samples: ConcatDataset[Sample] = ConcatDataset(splits)
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """Read and augment a sample. A plain index (overfit_batches) means the draw at that position of epoch 0."""
        draw = draw if isinstance(draw, Draw) else Draw(draw, epoch=0, position=draw)
        return self.augment(self._read(draw), (self.seed, draw.epoch, draw.position), draw.focus)

    def _read(self, draw: Draw) -> Sample:
        sample = self.samples[draw.sample]
        errors = list(sample["error"])
        ends = [0, *self.samples.cumulative_sizes]
        source = bisect_right(ends, draw.sample)
        while sample.get("padding"):
            if len(errors) > REPLACEMENTS:
                raise ValueError(f"{len(errors)} images in a row cannot be read; the last: {errors[-1].message}")
            rng = np.random.default_rng((self.seed, draw.epoch, draw.position, len(errors)))
            sample = self.samples[int(rng.integers(ends[source - 1], ends[source]))]
            errors += sample["error"]
        sample["error"] = errors
        return sample
