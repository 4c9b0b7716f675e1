"""Batches: collating samples, moving them to the device, and a training loader that can be resumed."""

import signal
from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ppar_lightning.data.dataset import Sample, Skipped
from ppar_lightning.data.sampling import TrainSampler
from ppar_lightning.images.variation import Variation, vary

GRACE = 60
"""Seconds that a worker continues after SIGTERM."""


class Batch(TypedDict):
    """A batch: `image` (B, 3, H, W) uint8 RGB, `label` (B, H, W) train ids or IGNORE, `name` and `domain` B strings.

    The loader returns the image as a view of (B, H, W, 3) and the label as uint8, because workers copy these fastest.
    `on_device` makes the image contiguous and the label int64, and applies the variation of a training batch.

    Attributes:
        error: The samples that could not be read.
        padding: Whether the batch is a single placeholder, all IGNORE, which is not scored or listed.
        window: In evaluation, size and stride of the sliding window; None segments the whole image at once.
        protocol: In evaluation, name of the protocol that the batch is scored by.
        variation: In training, the flip, colours and blur that `on_device` applies.
    """

    image: Tensor
    label: Tensor
    name: list[str]
    domain: list[str]
    error: list[Skipped]
    padding: bool
    window: NotRequired[tuple[int, int] | None]
    protocol: NotRequired[str]
    variation: NotRequired[Variation]


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch; placeholders are left out unless there is nothing else.

    Raises:
        ValueError: The images or their labels differ in size.
    """
    errors = [error for sample in samples for error in sample["error"]]
    samples = [sample for sample in samples if not sample.get("padding")] or samples[:1]
    first, images, labels = samples[0], [each["image"] for each in samples], [each["label"] for each in samples]
    for arrays in (images, labels):  # a protocol may resize one of them
        sizes = {array.shape[:2]: sample["name"] for array, sample in zip(arrays, samples, strict=True)}
        if len(sizes) > 1:
            listed = " and ".join(f"{name} is {width}x{height}" for (height, width), name in sizes.items())
            remedy = "which make no batch; set --data.eval_batch_size 1"
            raise ValueError(f"domain {first['domain']!r}: {listed}, {remedy}")
    batch: Batch = {
        "image": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        "label": torch.from_numpy(np.stack(labels)),
        "name": [sample["name"] for sample in samples],
        "domain": [sample["domain"] for sample in samples],
        "error": errors,
        "padding": first.get("padding", False),
    }
    if "variation" in first:
        fields = zip(*(sample["variation"] for sample in samples), strict=True)
        batch["variation"] = Variation(*map(torch.stack, fields))
    elif "protocol" in first:
        batch |= {"window": first["window"], "protocol": first["protocol"]}
    return batch


def on_device(batch: Batch) -> Batch:
    """Apply the variation and convert the types of a batch that has been moved to its device."""
    image, label = batch["image"].contiguous(), batch["label"]
    if "variation" in batch:
        image, label = vary(image, label, batch["variation"])
    return {**batch, "image": image, "label": label.long()}


def start_worker(worker: int) -> None:
    """Set up a worker: no OpenCV threads, since there is already a worker per core, and a grace period after signals.

    Signals to a whole job also reach the workers, but the main process still needs batches until the end of its step.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


class ResumableLoader(DataLoader[Sample]):
    """A loader over a `TrainSampler` that stores its position within the epoch in the checkpoint.

    With overfit_batches Lightning replaces the sampler; the loader then restarts at the beginning of the epoch.
    """

    served = 0
    """Number of batches of this epoch that were returned, including those before a restart."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the rest of the epoch."""
        self.served = getattr(self.sampler, "start", 0) // (self.batch_size or 1)
        for batch in super().__iter__():
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches returned; after a finished epoch, the next epoch and 0."""
        epoch, finished = getattr(self.sampler, "epoch", 0), self.served == len(self)
        return {"epoch": epoch + finished, "batch": 0 if finished else self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from the position that `state_dict` returned."""
        if isinstance(self.sampler, TrainSampler):
            self.sampler.set_epoch(state["epoch"])
            self.sampler.start = state["batch"] * (self.batch_size or 1)
