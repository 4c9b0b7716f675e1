"""Checkpoints on disk: written whole or not at all, checked before they are read, and found again."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint to a temporary file beside it, and rename the file when all of it is on the disk.

    Lightning's own uses the system's temporary folder, which may be on another disk, and does not sync.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: It cannot be written; the earlier file is unchanged.
        """
        path = Path(path)
        partial = path.with_name(f"{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync(path.parent)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch hides that of a full disk
            state = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
            remedy = "make room there; `ppar fit --ckpt_path last` goes on from the one before, if there is one"
            raise OSError(f"{path} cannot be written ({state}): {remedy}") from error


def sync(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files. Windows cannot open a folder, and is not waited for."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def promote(folder: Path) -> None:
    """Rename ``last.ckpt`` to ``previous.ckpt``, and ``next.ckpt`` to ``last.ckpt``."""
    last = folder / "last.ckpt"
    if last.exists():
        last.replace(folder / "previous.ckpt")
    (folder / "next.ckpt").replace(last)
    sync(folder)


def is_whole(path: Path) -> bool:
    """Return whether a file is undamaged, by its checksums, which torch does not check."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile raises a different one for each damaged field
        return False


def find_checkpoint(folder: str, wanted: str | None, training: bool) -> str | None:
    """Find the checkpoint to load.

    If ``last.ckpt`` is damaged or missing, training continues from ``previous.ckpt`` and says so; it ends with the same
    weights. A test would have another result, so it never uses the older checkpoint by itself.

    Args:
        folder: Run folder.
        wanted: What ``--ckpt_path`` says: a path, ``last``, or None, which is ``last`` unless for training.
        training: Whether a training is to be continued.

    Returns:
        A path; a word that Lightning resolves, such as ``best``; or None, or ``last`` if there is no checkpoint, to
        start from the beginning.

    Raises:
        FileNotFoundError: The run has not written one, and it is not for training.
        ValueError: The file is damaged, or no checkpoint; or ``last.ckpt`` is missing beside a whole ``previous.ckpt``.
    """
    if wanted is None and training:
        return None
    last, previous = (Path(folder) / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    path = last if wanted in (None, "last") else Path(str(wanted))
    if path.is_file() and is_whole(path):
        return str(path)
    state = f"{path} is damaged or no checkpoint" if path.is_file() else f"{path} not found"
    if path == last and is_whole(previous):
        if training:
            rank_zero_warn(f"{state}; going on from {previous}")
            return str(previous)
        remedy = f"`ppar fit --ckpt_path last` goes on from {previous.name}, --ckpt_path {previous} takes it as it is"
        raise ValueError(f"{state}: {remedy}")
    if path.is_file():
        raise ValueError(f"{state}: give another with --ckpt_path, or train again in another folder")
    if path == last and not training:
        raise FileNotFoundError(f"{state}: run `ppar fit` first, or give --ckpt_path")
    return wanted
