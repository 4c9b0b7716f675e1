"""The cache: arrays that are cheaper to read than to compute again."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ppar_lightning.disk.files import write_whole

Array = npt.NDArray[Any]


def cache_folder() -> Path:
    """Return the folder of the cache.

    It is ``$PPAR_CACHE``, else ``$XDG_CACHE_HOME/ppar_lightning``, else ``~/.cache/ppar_lightning``. An empty variable
    counts as not set.
    """
    own, shared = os.environ.get("PPAR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "ppar_lightning"


def save_array(path: Path, array: Array) -> None:
    """Write a ``.npy`` file whole or not at all, and create its folder; several processes may do so at once.

    Raises:
        OSError: The folder cannot be written to.
    """
    content = BytesIO()
    np.save(content, array, allow_pickle=False)
    try:
        write_whole(path, content.getvalue())
    except OSError as error:
        remedy = "set PPAR_CACHE to a writable folder"
        raise OSError(f"{path.parent} cannot be written to ({error.strerror}); {remedy}") from error


def load_array(path: Path) -> Array:
    """Read a ``.npy`` file of numbers. Python objects are never read.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is damaged, or holds anything but one array of numbers.
    """
    with path.open("rb") as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # NumPy raises many kinds of error for a damaged file
            raise ValueError(f"{path} is no .npy array of numbers ({error}); save one with numpy.save") from error
