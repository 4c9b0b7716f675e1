"""What reweighting does to clean and to corrupted source samples."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from ppar_lightning.analysis.corruption import Corruption, corrupt
from ppar_lightning.analysis.features import embed
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.data.dataset import Sample
from ppar_lightning.data.loading import Batch, collate
from ppar_lightning.data.transforms import Augment, Augmentation
from ppar_lightning.method.grid import Grid

ONLY_CROP = Augmentation(scale=(1.0, 1.0), flip=0.0, jitter=0.0, blur=0.0)


class Positions(NamedTuple):
    """Margins and weights of the positions of a batch, or of some of them."""

    margin: Tensor
    """r_n, in [-2, 2], before any pooling over regions."""
    weight: Tensor
    """w_n."""
    counted: Tensor
    """Bool: the position's label is clear enough to count."""


class CleanVsCorrupted(NamedTuple):
    """Positions (N,) that stayed clean, and those that were corrupted; cells that are partly so are in neither."""

    clean: Positions
    corrupted: Positions

    @property
    def auc(self) -> dict[str, float]:
        """Area under the ROC curve by ``margin`` and ``weight``, see :func:`auc`."""
        return {name: auc(getattr(self.corrupted, name), getattr(self.clean, name)) for name in ("margin", "weight")}


@torch.no_grad()
def weigh(run: LoadedRun, batch: Batch, u: float = 1.0) -> tuple[Positions, Grid]:
    """Weigh the positions of a batch as the training would at u, in eval mode.

    A weight is relative to its class in the batch, so the batch should be as large and as mixed as in training.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        batch: On the run's device.
        u: Share of training done, in [0, 1]; it decides between the anchors and how far weights spread.

    Returns:
        Positions, each field (B, n), and their grid.
    """
    objective = run.objective
    now, embedded = objective.schedules(u), embed(run.module, batch)
    margin = objective.margins(embedded, now)
    weights = objective.weights(margin, embedded, now)
    return Positions(margin, weights.w, embedded.labels.counted), embedded.grid


def compare(
    run: LoadedRun, domain: str, kind: Corruption, images: int = 60, every: int = 4, seed: int = 0
) -> CleanVsCorrupted:
    """Corrupt one evaluation image of a source in every few and weigh all, in crops and batches like the training's.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: A source's name.
        kind: How images are corrupted.
        images: How many are read.
        every: Each of this many images is corrupted.
        seed: Of crops and corruption.
    """
    augment, dataset = Augment(run.data.crop, ONLY_CROP), run.dataset(domain)
    parts: list[list[Tensor]] = []
    samples: list[Sample] = []
    masks: list[np.ndarray] = []
    number = min(images, len(dataset))
    for index in range(number):
        sample = augment(dataset[index], (seed, index))
        mask = np.zeros(sample["label"].shape, dtype=bool)
        if index % every == 0:
            sample, mask = corrupt(sample, kind, np.random.default_rng((seed, index)))
        samples.append(sample)
        masks.append(mask)
        if len(samples) == run.data.batch_size or index == number - 1:
            positions, grid = weigh(run, run.to_device(collate(samples)))
            share = grid.pool(torch.from_numpy(np.stack(masks)).float()).flatten(1)
            parts.append([each.cpu()[positions.counted.cpu()] for each in (share, *positions)])
            samples, masks = [], []
    share, *fields = (torch.cat(part) for part in zip(*parts, strict=True))
    clean, corrupted = share == 0, share > 0.5
    return CleanVsCorrupted(*(Positions(*(field[chosen] for field in fields)) for chosen in (clean, corrupted)))


def auc(lower: Tensor, higher: Tensor) -> float:
    """Area under the ROC curve: chance that a value of ``lower`` is below one of ``higher``, ties counting a half.

    Args:
        lower: (N,), N > 0.
        higher: (M,), M > 0.

    Returns:
        In [0, 1]; 0.5 says nothing.
    """
    rank = mannwhitneyu(higher.numpy(), lower.numpy(), method="asymptotic").statistic
    return float(rank / (len(lower) * len(higher)))
