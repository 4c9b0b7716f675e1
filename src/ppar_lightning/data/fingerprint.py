"""Fingerprints of splits, without reading the images: they show whether two machines hold the same images."""

import hashlib
import json
from contextlib import suppress
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
    found: Fingerprint = {"images": len(split), "hash": identity(split)[:16]}
    return {**found, "ids": hashlib.sha256(split.code).hexdigest()[:16]} if split.code else found


def identity(split: Split, times: bool = False) -> str:
    """Hash the names of a split's images and the size of each file.

    The hash of a rendered split covers all that its images depend on.

    Args:
        split: The images.
        times: Hash the files' times of modification as well.

    Returns:
        SHA-256 in hexadecimal digits.
    """

    def stated(path: Path) -> object:
        with suppress(OSError):  # removed since its folder was listed, or unreadable
            file = path.stat()
            return (file.st_size, file.st_mtime_ns) if times else file.st_size
        return None

    whole = split.whole
    if isinstance(whole, FolderDataset):
        what: list[object] = [(whole.names[i], *map(stated, whole.pairs[i])) for i in split.indices]
    else:
        what = [{key: value for key, value in vars(whole).items() if key != "domain"}, list(split.indices)]
    text = json.dumps([type(whole).__name__, what], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
