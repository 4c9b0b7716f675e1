"""The cache: derived arrays that are cheaper to read than to compute again."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def cache_folder() -> Path:
    """Folder of cached arrays: ``$PPAR_CACHE``, else ``~/.cache/ppar_lightning``."""
    return Path(os.environ.get("PPAR_CACHE", Path.home() / ".cache" / "ppar_lightning"))


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a ``.npy`` file whole or not at all, as several processes may do at once, and its folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, array)
        partial.replace(path)
    except OSError as error:
        remedy = "set PPAR_CACHE to a folder that can"
        raise OSError(f"{path.parent} cannot be written to ({error.strerror}); {remedy}") from error
