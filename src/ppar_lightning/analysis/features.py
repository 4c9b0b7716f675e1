"""Features of evaluation images in the joint space: a bounded sample of each class."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.data.loading import Batch
from ppar_lightning.method.agreement import Embedded
from ppar_lightning.segmenter.inputs import as_float


class Features(NamedTuple):
    """Features at positions of the images of one domain."""

    z: Tensor
    """(N, D) float32 unit vectors."""
    label: Tensor
    """(N,) int64 train ids."""


@torch.no_grad()
def embed(run: LoadedRun, batch: Batch) -> Embedded:
    """Embed a batch of whole images as a training step does, without the window of their protocol.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        batch: A batch on the device of the run. Labels of another size are resized to that of the images, since a
            protocol may resize the images alone.
    """
    image, label = as_float(batch["image"]), batch["label"].unsqueeze(1).float()
    label = F.interpolate(label, image.shape[2:], mode="nearest-exact").squeeze(1).long()
    return run.objective.label_map(*run.objective.embed_map(run.module.segmenter.outputs(image)), label)


def collect(run: LoadedRun, domain: str, images: int | None = None, limit: int = 200) -> Features:
    """Collect features of a domain.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        domain: Name of the domain.
        images: Number of images, from the start of the evaluation split; None reads all.
        limit: Largest number of positions of each class, drawn uniformly with a fixed seed from all that were read.

    Returns:
        Positions whose label is clear enough to count in training.

    Raises:
        ValueError: The run has no such domain, or was trained without PPAR.
    """
    generator = torch.Generator().manual_seed(0)
    kept: list[Tensor] = []  # (z, label, key) of the positions kept so far
    for batch in run.batches(domain, images):
        embedded = embed(run, batch)
        counted = embedded.labels.counted
        z, label = F.normalize(embedded.features[counted], dim=-1).cpu(), embedded.labels.label[counted].cpu()
        new = [z, label, torch.rand(len(label), generator=generator)]
        merged = [torch.cat(pair) for pair in zip(kept, new, strict=True)] if kept else new
        chosen = smallest_keys(merged[2], merged[1], limit)
        kept = [each[chosen] for each in merged]
    return Features(kept[0], kept[1])


def smallest_keys(key: Tensor, label: Tensor, limit: int) -> Tensor:
    """Return the indices of the ``limit`` smallest keys of each label; random keys give a uniform sample."""
    order = key.argsort()
    return torch.cat([order[label[order] == k][:limit] for k in label.unique()]) if len(key) else order
