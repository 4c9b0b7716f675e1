"""Class statistics: the number of pixels of each class in each image, computed once and cached."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_info
from rich.progress import track

from ppar_lightning.data.fingerprint import identity
from ppar_lightning.data.split import Split
from ppar_lightning.disk.cache import cache_folder, load_array, save_array
from ppar_lightning.distributed import barrier, rank
from ppar_lightning.shortage import shortage

Counts = npt.NDArray[np.int64]

READING = 2
"""Version of the reading of labels; a higher one makes counts of an earlier version count no more."""

UNREADABLE = -1
"""Value of all K counts of an image whose label cannot be read."""


def class_statistics(split: Split, workers: int = 0) -> Counts:
    """Count the pixels of each class in each image of a split.

    The counts are kept in the cache folder, in a file whose name is a hash of READING, the id table and the name, size
    and modification time of every file. Labels that could not be read are tried again by the next run. In a distributed
    run rank 0 counts while the others wait, and then read the file.

    Args:
        split: The images.
        workers: Number of threads that decode labels; 0 means one.

    Returns:
        (N, K) numbers of pixels by train id, at the size of the label files; a row of UNREADABLE if a label cannot be
        read.

    Raises:
        OSError: The cache folder cannot be written to.
    """
    first = rank() == 0
    if not first:
        barrier()
    try:
        return _cached(split, workers, recount=first)
    finally:
        if first:
            barrier()


def refuse_unlabelled(split: Split) -> None:
    """Refuse a split without a labelled pixel. It reads up to the first with one, or that is unreadable.

    Raises:
        ValueError: Every label that can be read holds ignored pixels only.
    """
    if all(max(count_label(split, index)) == 0 for index in range(len(split))):
        remedy = "correct the table of ids or the label files, or choose another split"
        raise ValueError(f"none of its {len(split)} labels has a pixel of a class, all are ignored; {remedy}")


def _cached(split: Split, workers: int, recount: bool) -> Counts:
    what = f"{READING} {len(split.classes)} {identity(split, times=True)}"
    key = hashlib.sha256(what.encode() + split.code).hexdigest()
    path = cache_folder() / f"statistics-{key[:20]}.npy"
    counts = np.full((len(split), len(split.classes)), UNREADABLE, dtype=np.int64)
    with suppress(OSError, ValueError):  # it does not exist yet, or is damaged
        counts[:] = load_array(path)
        if not recount:
            return counts
    rows = np.flatnonzero(counts[:, 0] == UNREADABLE)
    if not len(rows):
        return counts
    with ThreadPoolExecutor(max(1, workers)) as pool:  # threads suffice, because decoding releases Python's global lock
        found = pool.map(partial(count_label, split), rows.tolist())
        for row, count in zip(rows, track(found, f"class statistics of {split.domain}", len(rows)), strict=True):
            counts[row] = count
    save_array(path, counts)
    rank_zero_info(f"domain {split.domain!r}: class statistics are kept in {path}")
    return counts


def count_label(split: Split, index: int) -> list[int]:
    """Count the pixels of a label by train id: K numbers, each UNREADABLE if the label cannot be read."""
    number = len(split.classes)
    try:
        label = split.read_label(index)
    except (ValueError, OSError) as error:
        if shortage(error):  # which is no fault of the label
            raise
        return [UNREADABLE] * number
    return np.bincount(label.ravel(), minlength=number)[:number].tolist()
