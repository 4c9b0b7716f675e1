"""The cache: derived arrays that are cheaper to read than to compute again."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ppar_lightning.disk.files import write_whole

Array = npt.NDArray[Any]


def cache_folder() -> Path:
    """Folder of cached arrays: ``$PPAR_CACHE``, else ``~/.cache/ppar_lightning``."""
    return Path(os.environ.get("PPAR_CACHE", Path.home() / ".cache" / "ppar_lightning"))


def save_array(path: Path, array: Array) -> None:
    """Write a ``.npy`` file whole or not at all, as several processes may do at once, and its folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    content = BytesIO()
    np.save(content, array, allow_pickle=False)
    try:
        try:
            write_whole(path, content.getvalue())
        except FileNotFoundError:  # the folder was deleted meanwhile
            write_whole(path, content.getvalue())
    except OSError as error:
        remedy = "set PPAR_CACHE to a folder that can"
        raise OSError(f"{path.parent} cannot be written to ({error.strerror}); {remedy}") from error


def load_array(path: Path) -> Array:
    """Read a ``.npy`` file of numbers, never of Python objects.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, or damaged.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy has no error of its own for each fault of a file
        raise ValueError(f"{path} is no .npy array of numbers ({error}); save one with numpy.save") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of arrays; save one array with numpy.save")
    return array
