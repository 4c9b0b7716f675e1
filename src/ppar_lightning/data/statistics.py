"""Class statistics: the number of pixels of each class in each image, computed once and cached."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic as now

import cv2
import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_info

from ppar_lightning.data.fingerprint import identity
from ppar_lightning.data.split import Split
from ppar_lightning.disk.cache import cache_folder, load_array, save_array
from ppar_lightning.distributed import gather, rank
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.shortage import shortage

Counts = npt.NDArray[np.int64]

READING = 2
"""Version of the reading of labels; a higher one makes counts of an earlier version count no more."""

INTERVAL = 30.0
"""Seconds after which the counts so far are saved, and said in a line."""

UNREADABLE = -1
"""Value of all K counts of an image whose label cannot be read."""


def class_statistics(split: Split, workers: int = 0) -> Counts:
    """Count the pixels of each class in each image of a split.

    The counts are kept in the cache folder, in a file whose name is a hash of READING, the id table and the name, size
    and modification time of every file. Labels that could not be read are tried again by the next run, and so are those
    that an interrupted run did not come to. In a distributed run rank 0 counts. Every INTERVAL seconds it sends the
    others a sign of life, because no collective may outlast the timeout of the process group, and at last the counts.

    Args:
        split: The images.
        workers: Number of threads that decode labels; 0 means one for each core.

    Returns:
        (N, K) numbers of pixels by train id, at the size of the label files; a row of UNREADABLE if a label cannot be
        read.

    Raises:
        OSError: The cache folder cannot be written to.
    """
    found: Counts | Exception | None = None
    if rank() == 0:
        try:
            found = _cached(split, workers)
        except Exception as error:  # which ends the other ranks too
            found = error
        gather(found)
    while found is None:
        found = gather(None)[0]
    if isinstance(found, Exception):
        raise found
    return found


def refuse_unlabelled(split: Split) -> None:
    """Refuse a split without a labelled pixel. It reads up to the first with one, or that is unreadable.

    Raises:
        ValueError: Every label that can be read holds ignored pixels only.
    """
    if all(max(count_label(split, index)) == 0 for index in range(len(split))):
        remedy = "correct the table of ids or the label files, or choose another split"
        raise ValueError(f"none of its {len(split)} labels has a pixel of a class, all are ignored; {remedy}")


def _cached(split: Split, workers: int) -> Counts:
    """Read the counts, and count what is missing. From time to time it saves, and tells the ranks that wait."""
    what = f"{READING} {len(split.classes)} {identity(split, times=True)}"
    key = hashlib.sha256(what.encode() + split.code).hexdigest()
    path = cache_folder() / f"statistics-{key[:20]}.npy"
    counts = np.full((len(split), len(split.classes)), UNREADABLE, dtype=np.int64)
    with suppress(OSError, ValueError):  # it does not exist yet, or is damaged
        counts[:] = load_array(path)
    rows = np.flatnonzero(counts[:, 0] == UNREADABLE)
    if not len(rows):
        return counts
    pool = ThreadPoolExecutor(workers or os.cpu_count())  # decoding and counting release Python's global lock
    told = now()
    try:
        counted = zip(rows, pool.map(partial(count_label, split), rows.tolist()), strict=True)
        for done, (row, count) in enumerate(counted, start=1):
            counts[row] = count
            if now() > told + INTERVAL:
                rank_zero_info(f"domain {split.domain!r}: classes of {done} of {len(rows)} labels are counted")
                save_array(path, counts)
                gather(None)
                told = now()
    finally:
        pool.shutdown(cancel_futures=True)
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
    histogram = cv2.calcHist([label], [0], None, [IGNORE + 1], [0, IGNORE + 1])  # exact up to 2**24 pixels of a class
    return histogram.ravel()[:number].astype(np.int64).tolist()
