"""Fingerprints of splits, without reading the images: they show whether two machines hold the same images."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.split import Split


class Fingerprint(TypedDict):
    """Number of labelled images, and a hash of their names and file sizes."""

    images: int
    hash: str
    ids: NotRequired[str]
    """Hash of the table of label ids; rendered splits have none."""


def fingerprint(split: Split) -> Fingerprint:
    """Take the fingerprint of a split. Two splits hold the same images if their fingerprints are equal."""
    found: Fingerprint = {"images": len(split), "hash": identity(split, lambda file: file.st_size)[:16]}
    if isinstance(split.whole, FolderDataset):
        code = split.whole.code + (b"" if split.table is None else split.table.tobytes())
        found["ids"] = hashlib.sha256(code).hexdigest()[:16]
    return found


def identity(split: Split, of_file: Callable[[os.stat_result], object]) -> str:
    """Hash the names of a split's images and the value of `of_file` for each file.

    The hash of a rendered split covers all that its images depend on.

    Args:
        split: The images.
        of_file: Function from the status (size, times) of an image or label file to a value that JSON can hold.

    Returns:
        SHA-256 in hexadecimal digits.
    """

    def stated(path: Path) -> object:
        try:
            return of_file(path.stat())
        except OSError:  # removed since its folder was listed, or unreadable
            return None

    whole = split.whole
    if isinstance(whole, FolderDataset):
        what: list[object] = [(whole.names[i], *map(stated, whole.pairs[i])) for i in split.indices]
    else:
        what = [{key: value for key, value in vars(whole).items() if key != "domain"}, list(split.indices)]
    text = json.dumps([type(whole).__name__, what], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
