"""Features of evaluation images in the joint space, a bounded sample of each class."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.analysis.run import Run
from ppar_lightning.data.loading import Batch
from ppar_lightning.method.objective import Embedded
from ppar_lightning.module import as_float


class Features(NamedTuple):
    """Positions of one domain."""

    z: Tensor
    """(N, D) float32 unit vectors."""
    label: Tensor
    """(N,) int64 train ids."""


@torch.no_grad()
def embed(run: Run, batch: Batch) -> Embedded:
    """Embed a batch as a training step does, but in eval mode; whole images, whatever window scores them.

    Raises:
        ValueError: If the run was trained without PPAR.
    """
    image = as_float(batch["image"])
    return run.objective._embed(run.module.segmenter.outputs(image), image, batch["label"])[0]


def collect(run: Run, domain: str, images: int | None = None, limit: int = 200, seed: int = 0) -> Features:
    """Collect features of a domain.

    Args:
        run: From :func:`~ppar_lightning.analysis.run.load_run`.
        domain: Its name.
        images: Read this many, the first of the evaluation split; None reads all.
        limit: Positions kept of each class, drawn uniformly from all that were read.
        seed: Of the draw.

    Returns:
        Positions whose label is clear enough to count in training.

    Raises:
        ValueError: If the run has no such domain, or was trained without PPAR.
    """
    generator = torch.Generator().manual_seed(seed)
    kept: list[Tensor] = []  # (z, label, key) of what is left so far
    for batch in run.batches(domain, images):
        embedded = embed(run, batch)
        counted = embedded.labels.counted
        z = F.normalize(embedded.features[counted], dim=-1).cpu()
        label = embedded.labels.label[counted].cpu()
        new = [z, label, torch.rand(len(label), generator=generator)]
        merged = [torch.cat(pair) for pair in zip(kept, new, strict=True)] if kept else new
        chosen = smallest_keys(merged[2], merged[1], limit)
        kept = [each[chosen] for each in merged]
    return Features(kept[0], kept[1])


def smallest_keys(key: Tensor, label: Tensor, limit: int) -> Tensor:
    """Indices of the ``limit`` smallest keys of each label: with random keys, a uniform sample of each label."""
    order = key.argsort()
    return torch.cat([order[label[order] == k][:limit] for k in label.unique()]) if len(key) else order
