"""A fingerprint of a data set: enough to notice that two machines do not hold the same images."""

import hashlib
import json
from pathlib import Path
from typing import TypedDict

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.split import Split


class Fingerprint(TypedDict):
    """Number of labelled images, and a hash of their names and the sizes of their files."""

    images: int
    hash: str


def fingerprint(split: Split) -> Fingerprint:
    """Take the fingerprint of a split; files are not read.

    Of a rendered one the hash is of all that its images depend on.
    """
    whole, indices = split.whole, split.indices
    what: object
    if isinstance(whole, FolderDataset):
        what = [(whole.names[index], *map(_size, whole.pairs[index])) for index in indices]
    else:
        what = [{key: value for key, value in vars(whole).items() if key != "domain"}, list(indices)]
    text = json.dumps([type(whole).__name__, what], default=str, sort_keys=True)
    return {"images": len(indices), "hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # gone since the folder was listed, or not to be read
        return None
