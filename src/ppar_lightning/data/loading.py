"""Samples into batches."""

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
"""Seconds that a worker lives on after SIGTERM."""


class Batch(TypedDict):
    """`image` (B, 3, H, W) uint8 RGB, `label` (B, H, W) train ids or IGNORE, `name` and `domain` B strings.

    As a loader gives it, the image is a view of (B, H, W, 3) and the label uint8, which is least work for a worker;
    `on_device` makes them contiguous and int64, and applies the variation of a training batch.

    Attributes:
        error: The samples that could not be read.
        padding: Whether the batch holds one placeholder only, all IGNORE, of which nothing counts.
        window: In evaluation: size and stride of the inference window; None takes the image whole.
        protocol: In evaluation: name of the protocol that the batch is scored by.
        variation: In training: what `on_device` applies.
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
    """Stack the samples that could be read.

    Raises:
        ValueError: the images or their labels differ in size.
    """
    errors = [error for sample in samples for error in sample["error"]]
    samples = [sample for sample in samples if not sample.get("padding")] or samples[:1]
    first = samples[0]
    for sample in samples:
        for part in (sample["image"], first["image"]), (sample["label"], first["label"]):  # which protocols tell apart
            (other_h, other_w), (h, w) = (array.shape[:2] for array in part)
            if (other_h, other_w) != (h, w):
                raise ValueError(
                    f"domain {first['domain']!r}: {first['name']} is {w}x{h} and {sample['name']} is "
                    f"{other_w}x{other_h}, which make no batch; set --data.eval_batch_size 1"
                )
    batch: Batch = {
        "image": torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2),
        "label": torch.from_numpy(np.stack([sample["label"] for sample in samples])),
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
    """Make a batch what the model takes, after it was moved to its device."""
    image, label = batch["image"].contiguous(), batch["label"]
    if "variation" in batch:
        image, label = vary(image, label, batch["variation"])
    return {**batch, "image": image, "label": label.long()}


def start_worker(worker: int) -> None:
    """Keep OpenCV from starting threads, as there is one worker a core already, and serve a run that is told to stop.

    Signals to a whole job reach workers too; the main process still needs batches until the end of its step.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


class ResumableLoader(DataLoader[Sample]):
    """A loader over a `TrainSampler` whose place within the epoch goes into the checkpoint.

    With overfit_batches Lightning puts a sampler of its own into it; then it restarts at the beginning.
    """

    served = 0
    """Batches of this epoch that were handed out, those before a restart included."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the rest of the epoch."""
        self.served = getattr(self.sampler, "start", 0) // (self.batch_size or 1)
        for batch in super().__iter__():
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and the batches handed out; a finished epoch counts as none of the next."""
        epoch, finished = getattr(self.sampler, "epoch", 0), self.served == len(self)
        return {"epoch": epoch + finished, "batch": 0 if finished else self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        if isinstance(self.sampler, TrainSampler):
            self.sampler.set_epoch(state["epoch"])
            self.sampler.start = state["batch"] * (self.batch_size or 1)
