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

    Raises:
        OSError: The variables are not set, and the user has no home folder, as in some containers.
    """
    own, shared = os.environ.get("PPAR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(own or Path(shared or "~/.cache", "ppar_lightning")).expanduser()
    except RuntimeError as error:
        raise OSError("there is no home folder for the cache; set PPAR_CACHE to a writable folder") from error


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
        raise OSError(f"{path.parent}: {error.strerror}; set PPAR_CACHE to a writable folder") from error


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
