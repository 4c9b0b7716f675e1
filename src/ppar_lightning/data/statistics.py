"""Class statistics: how many pixels of each class an image holds, computed once and cached."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch.distributed
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from ppar_lightning.data.dataset import FolderDataset, SegmentationDataset
from ppar_lightning.data.split import Split
from ppar_lightning.disk.cache import cache_folder, load_array, save_array
from ppar_lightning.images.classes import CLASSES

Counts = npt.NDArray[np.int64]

UNREADABLE = -1
"""Entries of an image whose label cannot be read."""


def class_statistics(split: Split, workers: int = 0) -> Counts:
    """Count the pixels of each class in each image of a data set.

    They are kept in ``.ppar`` beside the data, or where that cannot be written to in the cache folder, under a key of
    all that they depend on: the split, the id table, and name, size and time of every label file. Labels that could not
    be read are tried again by the next run. In a distributed run the first rank computes them while the others wait.

    Args:
        split: what is counted.
        workers: processes that decode labels.

    Returns:
        (N, 19) pixels by train id, of label files at their own size; a row of UNREADABLE where one cannot be read.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    first = not distributed or torch.distributed.get_rank() == 0
    if not first:
        torch.distributed.barrier()
    try:
        return _cached(split.whole, split.indices, workers, recount=first)
    finally:
        if distributed and first:
            torch.distributed.barrier()


def _cached(whole: SegmentationDataset, indices: Sequence[int], workers: int, recount: bool) -> Counts:
    name = f"statistics-{_key(whole, indices)}.npy"
    folders = [cache_folder()]
    if isinstance(whole, FolderDataset):
        folders.insert(0, whole.root / ".ppar")
    kept = next((found for each in folders if (found := _load(each / name, len(indices))) is not None), None)
    counts = np.full((len(indices), len(CLASSES)), UNREADABLE, dtype=np.int64) if kept is None else kept
    rows = np.flatnonzero(counts[:, 0] == UNREADABLE)
    if kept is not None and not (recount and len(rows)):
        return counts
    counts[rows] = _count(whole, [indices[row] for row in rows.tolist()], workers)
    for folder in folders[:-1]:
        try:
            save_array(folder / name, counts)
        except OSError:  # a data set that belongs to somebody else
            continue
        return counts
    save_array(folders[-1] / name, counts)
    return counts


def _key(whole: SegmentationDataset, indices: Sequence[int]) -> str:
    if isinstance(whole, FolderDataset):
        files = [(whole.names[index], _stamp(whole.pairs[index][1])) for index in indices]
        what = [whole.split, whole.table.tolist(), files]
    else:
        what = [{key: value for key, value in vars(whole).items() if key != "domain"}, list(indices)]
    text = json.dumps([type(whole).__name__, what], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None if it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _load(path: Path, length: int) -> Counts | None:
    """Read what was kept; None if it is not there, or damaged."""
    try:
        counts = load_array(path)
    except (OSError, ValueError):
        return None
    return counts if counts.shape == (length, len(CLASSES)) and counts.dtype == np.int64 else None


def _count(whole: SegmentationDataset, indices: Sequence[int], workers: int) -> Counts:
    loader = DataLoader(
        LabelCounts(whole, indices), batch_size=None, num_workers=workers, generator=torch.Generator(), collate_fn=list
    )
    rows = track(loader, f"class statistics of {whole.domain}", len(indices))
    return np.array(list(rows), dtype=np.int64).reshape(len(indices), len(CLASSES))


class LabelCounts(Dataset[list[int]]):
    """Pixels by train id of each label.

    Args:
        whole: a split.
        indices: what is counted of it.
    """

    def __init__(self, whole: SegmentationDataset, indices: Sequence[int]) -> None:
        self.whole = whole
        self.indices = indices

    def __len__(self) -> int:
        """Number of labels."""
        return len(self.indices)

    def __getitem__(self, index: int) -> list[int]:
        """19 counts, or UNREADABLE."""
        try:
            label = self.whole.read_label(self.indices[index])
        except (ValueError, OSError):
            return [UNREADABLE] * len(CLASSES)
        return np.bincount(label.ravel(), minlength=len(CLASSES))[: len(CLASSES)].tolist()
