"""The weights that reweighting gives to clean and to corrupted source samples."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from ppar_lightning.analysis.corruption import Corruption, changed, corrupt
from ppar_lightning.analysis.features import embed
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.data.loading import Batch, collate
from ppar_lightning.data.transforms import Augment, Augmentation
from ppar_lightning.method.agreement import class_weights
from ppar_lightning.method.grid import Grid
from ppar_lightning.method.schedule import Schedules

ONLY_CROP = Augmentation(scale=(1.0, 1.0), flip=0.0, jitter=0.0, blur=0.0)


class Positions(NamedTuple):
    """Margins and weights of the positions of a batch, or of some of them."""

    margin: Tensor
    """Margin r_n in [-2, 2], before any pooling over regions."""
    weight: Tensor
    """Weight w_n."""
    counted: Tensor
    """Bool: the position's label is clear enough to count."""


class CleanVsCorrupted(NamedTuple):
    """Clean and corrupted positions, each field (N,); cells of which up to half is corrupted are in neither."""

    clean: Positions
    corrupted: Positions

    @property
    def auc(self) -> dict[str, float]:
        """Area under the ROC curve for ``margin`` and for ``weight``, see :func:`auc`."""
        return {name: auc(getattr(self.corrupted, name), getattr(self.clean, name)) for name in ("margin", "weight")}


def weigh(run: LoadedRun, batch: Batch, u: float = 1.0) -> tuple[Positions, Grid]:
    """Weight the positions of a batch as training would at progress u, in eval mode.

    A weight is relative to its class in the batch, so the batch should be as large and as mixed as in training.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        batch: A batch on the device of the run.
        u: Share of training that is done, in [0, 1]; the schedules of anchors and weights depend on it.

    Returns:
        Positions, each field (B, n), and their grid.
    """
    objective = run.objective
    embedded = embed(run, batch)
    agreement = objective.agreement(embedded, Schedules.at(u, objective.options).on(embedded.features.device))
    weights = class_weights(agreement, embedded, agreement.sums[:, :3])
    return Positions(agreement.margin, weights.w, embedded.labels.counted), embedded.grid


def compare(run: LoadedRun, domain: str, kind: Corruption, images: int = 60, every: int = 4) -> CleanVsCorrupted:
    """Corrupt some evaluation images of a source, and weight all of them in crops and batches as in training.

    Crops and corruption have fixed seeds.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of a source.
        kind: Kind of corruption.
        images: Number of images, from the start of the split.
        every: Every how many images one is corrupted; at least 1.
    """
    augment, dataset = Augment(run.data.crop, ONLY_CROP), run.dataset(domain)
    number, size = min(images, len(dataset)), run.data.batch_size
    parts = []
    for start in range(0, number, size):
        clean = [augment(dataset[index], (0, index)) for index in range(start, min(start + size, number))]
        mixed = [*clean]
        for place in range(-start % every, len(clean), every):
            mixed[place] = corrupt(clean[place], kind, np.random.default_rng((0, start + place)))
        positions, grid = weigh(run, run.to_device(collate(mixed)))
        masks = np.stack([changed(*pair) for pair in zip(clean, mixed, strict=True)])
        share = grid.pool(torch.from_numpy(masks).float()).flatten(1)
        parts.append([each.cpu()[positions.counted.cpu()] for each in (share, *positions)])
    share, *fields = (torch.cat(part) for part in zip(*parts, strict=True))
    groups = (share == 0, share > 0.5)
    return CleanVsCorrupted(*(Positions(*(field[chosen] for field in fields)) for chosen in groups))


def auc(lower: Tensor, higher: Tensor) -> float:
    """Compute the area under the ROC curve: the probability that a value of ``lower`` is below one of ``higher``.

    Ties count half.

    Args:
        lower: (N,).
        higher: (M,).

    Returns:
        Value in [0, 1]; 0.5 means that the two cannot be told apart. NaN if one of them is empty.
    """
    if not len(lower) or not len(higher):
        return torch.nan
    rank = mannwhitneyu(higher.numpy(), lower.numpy(), method="asymptotic").statistic
    return float(rank / (len(lower) * len(higher)))
