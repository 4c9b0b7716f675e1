"""Which samples are read, in which order, and what seeds their augmentation."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch.distributed
from torch.utils.data import ConcatDataset, Dataset, DistributedSampler

from ppar_lightning.data.dataset import Sample
from ppar_lightning.data.transforms import Augment


class Draw(NamedTuple):
    """A training sample as the sampler asks for it."""

    sample: int
    """Index into the data set."""
    epoch: int
    position: int
    """Place in the epoch's order, over all ranks."""


class TrainSampler(DistributedSampler[Draw]):
    """A random order of the data set, anew in every epoch, dealt out to the ranks like cards.

    The order depends on (seed, epoch) alone. N ranks with batch b see in each step what one rank with batch N b sees.
    Lightning leaves a DistributedSampler as it is and tells it the epoch.

    Args:
        dataset: what is sampled.
        seed: seed of the order.
    """

    def __init__(self, dataset: Dataset[Sample], seed: int) -> None:
        rank, ranks = _world()
        super().__init__(dataset, num_replicas=ranks, rank=rank, seed=seed, drop_last=True)
        self.start = 0
        """Samples of this rank to leave out at the beginning of the epoch, because they were seen before a restart."""

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; a new one starts at its beginning."""
        if epoch != self.epoch:
            self.start = 0
        super().set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        """Yield this rank's share of the epoch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.dataset))  # type: ignore[arg-type]
        start, self.start = self.start, 0
        for position in range(self.rank, self.total_size, self.num_replicas)[start:]:
            yield Draw(int(order[position]), self.epoch, position)


class EvaluationSampler(DistributedSampler[int]):
    """All samples in order, each on exactly one rank: no padding, so the ranks' shares may differ by one."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        rank, ranks = _world()
        super().__init__(dataset, num_replicas=ranks, rank=rank, shuffle=False)
        self.share = range(rank, len(dataset), ranks)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices."""
        return iter(self.share)

    def __len__(self) -> int:
        """Number of samples of this rank."""
        return len(self.share)


class AugmentedDataset(Dataset[Sample]):
    """The sources one after another, augmented.

    An item is a function of (seed, draw) alone: not of the process that reads it, nor of the global generators, which
    the model uses as it likes. Two draws never share their random numbers, even of one image.

    Args:
        datasets: the sources' training splits.
        augment: the augmentation.
        seed: seed of the augmentation.
    """

    def __init__(self, datasets: Sequence[Dataset[Sample]], augment: Augment, seed: int) -> None:
        self.samples: ConcatDataset[Sample] = ConcatDataset(datasets)
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples)

    def __getitem__(self, draw: Draw | int) -> Sample:
        """Read and augment; a plain index, as overfit_batches asks for, is the draw of that position in epoch 0."""
        sample, epoch, position = draw if isinstance(draw, tuple) else (draw, 0, draw)
        return self.augment(self.samples[sample], (self.seed, epoch, position))


def _world() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
