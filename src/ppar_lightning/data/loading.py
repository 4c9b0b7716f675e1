"""Batches: collating samples, moving them to the device, and a training loader that can be resumed."""

import errno
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.queues import Queue
from threading import Thread
from typing import Any, NamedTuple, NoReturn, NotRequired, TypedDict

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from ppar_lightning.data.dataset import Sample, Skipped
from ppar_lightning.data.sampling import TrainSampler
from ppar_lightning.images.tta import Copy
from ppar_lightning.images.variation import Variation, vary

PATIENCE = 2
"""Seconds until torch has noticed that a worker ended."""


class Batch(TypedDict):
    """A batch: `image` (B, 3, H, W) uint8 RGB, `label` (B, H, W) train ids or IGNORE, `name` and `domain` B strings.

    The loader returns the image as a view of (B, H, W, 3) and the label as uint8, because workers copy these fastest.
    `on_device` makes the image contiguous and the label int64, and applies the variation of a training batch.

    Attributes:
        error: The samples that could not be read.
        padding: Whether the batch is a single placeholder, all IGNORE, which is not scored or listed.
        window: In evaluation, size and stride of the sliding window; None segments the whole image at once.
        tta: In evaluation, scale of each copy that is segmented, and whether it is mirrored; empty without copies.
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
    tta: NotRequired[tuple[Copy, ...]]
    protocol: NotRequired[str]
    variation: NotRequired[Variation]


class Prediction(NamedTuple):
    """Labels and confidences of a batch of pictures."""

    label: Tensor
    """(B, H, W) train ids."""
    confidence: Tensor
    """(B, H, W), the probability of the label, in [0, 1]."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch; placeholders are left out unless there is nothing else."""
    errors = [error for sample in samples for error in sample["error"]]
    samples = [sample for sample in samples if not sample.get("padding")] or samples[:1]
    first = samples[0]
    batch: Batch = {
        "image": default_collate([sample["image"] for sample in samples]).permute(0, 3, 1, 2),
        "label": default_collate([sample["label"] for sample in samples]),  # in a worker, in shared memory at once
        "name": [sample["name"] for sample in samples],
        "domain": [sample["domain"] for sample in samples],
        "error": errors,
        "padding": first.get("padding", False),
    }
    if first.get("variation"):
        batch["variation"] = default_collate([sample["variation"] for sample in samples])
    elif "protocol" in first:
        batch |= {"window": first["window"], "tta": first["tta"], "protocol": first["protocol"]}
    return batch


def on_device(batch: Batch) -> Batch:
    """Apply the variation and convert the types of a batch that has been moved to its device."""
    image, label = batch["image"].contiguous(), batch["label"]
    if "variation" in batch:
        image, label = vary(image, label, batch["variation"])
    return {**batch, "image": image, "label": label.long()}


def start_worker(worker: int) -> None:
    """Set up a worker: no OpenCV threads, since there is already a worker per core, and its end.

    Signals to a whole job also reach the workers, but the main process still needs batches until the end of its step.
    So SIGTERM ends a worker only if the main process sent it.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where torch's own handler remains
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=await_end, daemon=True).start()
    sys.excepthook = lambda kind, error, trace: give_up(error)  # of the thread that hands files over
    setattr(Queue, "_on_queue_feeder_error", staticmethod(lambda error, _: give_up(error)))  # noqa: B010


def await_end() -> None:
    """End this worker as soon as its main process sends SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def give_up(error: BaseException) -> NoReturn:
    """End this worker because it cannot send a batch, which the main process would await for ever.

    The exit status is the number of the system's error, which torch repeats in its message.
    """
    number = re.search(r"(?:\[Errno |\()(\d+)[])]", str(error))
    if number is None:
        traceback.print_exception(error)
    os._exit(int(number[1]) if number else 1)


class Loader(DataLoader[Sample]):
    """A loader that counts its batches, and that says why a worker ended or could not start."""

    served = 0
    """Number of batches of this epoch that were returned, including those before a restart."""

    def __iter__(self) -> Any:
        """Yield the batches of the rest of the epoch.

        Raises:
            OSError, RuntimeError: A worker could not start, or ended too soon.
        """
        self.served = getattr(self.sampler, "start", 0) // (self.batch_size or 1)
        try:
            for batch in super().__iter__():
                self.served += 1
                yield batch
        except (EOFError, ConnectionError):  # the worker ended; torch's handler of SIGCHLD soon raises the reason
            time.sleep(PATIENCE)
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC:  # of the semaphores that workers share
                raise OSError(error.errno, f"{error.strerror} in /dev/shm") from error
            raise


class ResumableLoader(Loader):
    """A loader over a `TrainSampler` that stores its position within the epoch in the checkpoint.

    With overfit_batches Lightning replaces the sampler; the loader then restarts at the beginning of the epoch.
    """

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches returned; after a finished epoch, the next epoch and 0."""
        epoch, finished = getattr(self.sampler, "epoch", 0), self.served == len(self)
        return {"epoch": epoch + finished, "batch": 0 if finished else self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from the position that `state_dict` returned."""
        if isinstance(self.sampler, TrainSampler):
            self.sampler.set_epoch(state["epoch"])
            self.sampler.start = state["batch"] * (self.batch_size or 1)
