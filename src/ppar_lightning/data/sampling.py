"""Which samples are read, in which order, and what seeds their augmentation."""

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
"""Images drawn in place of one that cannot be read, before the run ends."""


class Draw(NamedTuple):
    """A training sample as the sampler asks for it."""

    sample: int
    """Index into the data set."""
    epoch: int
    position: int
    """Place in the epoch's order, over all ranks."""
    focus: int | None = None
    """Train id that the crop should show."""


class TrainSampler(DistributedSampler[Draw]):
    """The draws of an `EpochOrder`, anew in every epoch, dealt out to the ranks like cards.

    They depend on (seed, epoch) alone. N ranks with batch b see in each step what one rank with batch N b sees.
    Lightning leaves a DistributedSampler as it is and tells it the epoch.

    Args:
        order: what each epoch draws.
    """

    def __init__(self, order: EpochOrder) -> None:
        super().__init__(order, num_replicas=world_size(), rank=rank(), drop_last=True)  # type: ignore[arg-type]
        self.order = order
        self.start = 0
        """Samples of this rank to leave out at the beginning of the epoch, because they were seen before a restart."""

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; a new one starts at its beginning."""
        if epoch != self.epoch:
            self.start = 0
        super().set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        """Yield this rank's share of the epoch."""
        samples, focus = self.order.draws(self.epoch)
        start, self.start = self.start, 0
        for position in range(self.rank, self.total_size, self.num_replicas)[start:]:
            wanted = None if focus[position] == NO_FOCUS else int(focus[position])
            yield Draw(int(samples[position]), self.epoch, position, wanted)


class EvaluationSampler(DistributedSampler[int]):
    """All samples in order, each on exactly one rank.

    Shares that are smaller end in PADDING, never in a sample again: all ranks make as many steps, as what they do
    together within a step (buffers under DDP, parameters under FSDP) wants it, and none is without a batch.
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

    An item is a function of (seed, draw) alone: not of the process that reads it, nor of the global generators, which
    the model uses as it likes. Two draws never share their random numbers, even of one image. In place of an image that
    a split that skips cannot read comes another one of its source.

    Args:
        splits: the sources' training splits.
        augment: the augmentation.
        seed: seed of the augmentation.
    """

    def __init__(self, splits: Sequence[Split], augment: Augment, seed: int) -> None:
        self.samples: ConcatDataset[Sample] = ConcatDataset(splits)
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """Read and augment; a plain index, as overfit_batches asks for, is the draw of that position in epoch 0."""
        draw = draw if isinstance(draw, Draw) else Draw(draw, epoch=0, position=draw)
        return self.augment(self._read(draw), (self.seed, draw.epoch, draw.position), draw.focus)

    def _read(self, draw: Draw) -> Sample:
        sample = self.samples[draw.sample]
        errors = list(sample["error"])
        ends = [0, *self.samples.cumulative_sizes]
        source = bisect_right(ends, draw.sample)
        while sample.get("padding"):
            if len(errors) > REPLACEMENTS:
                domain, _, message = errors[-1]
                raise ValueError(
                    f"domain {domain!r}: {len(errors)} images in a row cannot be read, the last: {message}"
                )
            rng = np.random.default_rng((self.seed, draw.epoch, draw.position, len(errors)))
            sample = self.samples[int(rng.integers(ends[source - 1], ends[source]))]
            errors += sample["error"]
        sample["error"] = errors
        return sample
