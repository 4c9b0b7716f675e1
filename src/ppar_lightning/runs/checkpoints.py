"""Checkpoint files: they are written whole or not at all, checked for damage, and found by the rules of a run."""

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn
from lightning_utilities.core.apply_func import apply_to_collection

from ppar_lightning.disk.tensors import read_checkpoint
from ppar_lightning.runs.run_folder import LAST


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint to a temporary file beside it, and rename the file when all of it is on the disk.

    Lightning's class uses the system's temporary folder, which may be on another disk, and does not sync.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: The file cannot be written; the earlier file is unchanged.
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
            state = getattr(error.__context__ or error, "strerror", None) or error  # torch hides that of a full disk
            remedy = "make room there; `ppar fit --ckpt_path last` continues from the previous one, if any"
            raise OSError(f"{path} cannot be written ({state}): {remedy}") from error


class BackgroundCheckpointIO(AsyncCheckpointIO):
    """Let another plugin write checkpoints in a thread, one at a time, while training goes on.

    Lightning's class would copy them within the memory of the device, and show an error of its thread only after it has
    begun to write the next one.
    """

    def __init__(self, writer: CheckpointIO) -> None:
        """Start with nothing to do.

        Args:
            writer: Plugin that writes and removes the files.
        """
        super().__init__(writer)
        self._writer = writer
        self._pool = ThreadPoolExecutor(max_workers=1)  # Python waits for it before it exits
        self._task: Future[Any] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Wait for the file before, copy the checkpoint into the memory of the CPU, and begin to write the copy.

        Raises:
            OSError: The file before could not be written.
        """
        self.teardown()
        copy = apply_to_collection(
            checkpoint, torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), allow_frozen=True
        )
        self.then(self._writer.save_checkpoint, copy, path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file once that which takes its place is whole; if that fails, keep it."""
        self.then(self._writer.remove_checkpoint, path)

    def then(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do something in the thread after all that was begun before, unless that fails."""
        before, wait = self._task, self._writer.teardown  # for a plugin that has a thread of its own
        self._task = self._pool.submit(lambda: (before and before.result(), work(*arguments), wait()))

    def teardown(self, wait: bool = True) -> None:
        """Wait until all is done, or only look whether it is.

        Raises:
            OSError: A file could not be written. The error is raised once.
        """
        if self._task is not None and (wait or self._task.done()):
            task, self._task = self._task, None
            task.result()


def sync(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk; do nothing on Windows, which cannot sync a folder."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def promote(folder: Path) -> None:
    """Rename ``last.ckpt`` to ``previous.ckpt``, and ``next.ckpt`` to ``last.ckpt``.

    Raises:
        OSError: ``next.ckpt`` is not whole.
    """
    last, new = folder / "last.ckpt", folder / "next.ckpt"
    if not is_whole(new):
        raise OSError(
            f"{new} is damaged or no checkpoint: check the disk, and leave plugins out that write checkpoints"
        )
    if last.exists():
        last.replace(folder / "previous.ckpt")
    new.replace(last)
    sync(folder)


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint is undamaged, by its checksums, which torch itself does not verify."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile raises a different error for each damaged field
        return False


def find_checkpoint(folder: str, wanted: str | None, training: bool) -> str | None:
    """Find the checkpoint to load.

    If ``last.ckpt`` is damaged or missing, training continues from ``previous.ckpt`` and says so; it ends with the same
    weights. A test would have another result, so it never uses the older checkpoint by itself.

    Args:
        folder: Run folder.
        wanted: Value of ``--ckpt_path``: a path, ``last``, ``best``, or None. None means ``last``, except that training
            starts from the beginning.
        training: Whether the checkpoint is for ``ppar fit``.

    Returns:
        A path, or what Lightning resolves, such as ``hpc`` or an address. None, or ``last`` without any checkpoint,
        starts training from the beginning.

    Raises:
        FileNotFoundError: There is no such file; or the run has no checkpoint yet, and it is not for training.
        ValueError: The file is damaged or no checkpoint; or it is not for training, and ``last.ckpt`` is missing while
            ``previous.ckpt`` is there.
    """
    if wanted is None and training:
        return None
    if wanted == "best":
        wanted = best_checkpoint(Path(folder))
    last, previous = (Path(folder) / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    path = last if wanted in (None, "last") else Path(str(wanted))
    if path.is_file() and is_whole(path):
        return str(path)
    state = f"{path} is damaged or no checkpoint" if path.is_file() else f"{path} not found"
    if path == last and is_whole(previous):
        if training:
            rank_zero_warn(f"{state}; continuing from {previous}")
            return str(previous)
        remedy = f"`ppar fit --ckpt_path last` continues from {previous.name}; --ckpt_path {previous} loads it as it is"
        raise ValueError(f"{state}: {remedy}")
    if path.is_file():
        raise ValueError(f"{state}: give another with --ckpt_path, or train again in another folder")
    if path == last and not training:
        raise FileNotFoundError(f"{state}: run `ppar fit` first, or give --ckpt_path")
    if path != last and not path.exists() and not re.match(r"hpc$|registry|\w+://", str(wanted)):
        raise FileNotFoundError(f"{state}: give a checkpoint that exists, or --ckpt_path last")
    return wanted


def best_checkpoint(folder: Path) -> str:
    """Find the best checkpoint of a run by what its last checkpoint says about ModelCheckpoint.

    Args:
        folder: Run folder. The run may have been moved since.

    Raises:
        FileNotFoundError: The best checkpoint is gone.
        ValueError: No callback of the run has selected a checkpoint by a metric, or several have.
    """
    last = folder / LAST
    states = read_checkpoint(last).get("callbacks", {}).values() if last.is_file() else ()
    monitors = [state for state in states if isinstance(state, dict) and state.get("monitor")]
    best = sorted({state["best_model_path"] for state in monitors if state["best_model_path"]})
    if len(best) != 1:
        found = f"several ({' or '.join(best)})" if best else "none, as no metric selected one"
        remedy = "give one as --ckpt_path, or train with --checkpoint.monitor METRIC --checkpoint.save_top_k 1"
        raise ValueError(f"{folder} has no single best checkpoint but {found}: {remedy}")
    path = Path(best[0]) if Path(best[0]).is_file() else last.parent / Path(best[0]).name
    if not path.is_file():
        raise FileNotFoundError(f"{path}, the best checkpoint of {folder}, is gone: leave --ckpt_path best out")
    return str(path)


def refuse_finished(path: Path, checkpoint: Mapping[str, Any], options: Any) -> None:
    """Refuse a checkpoint that leaves nothing to train; a finished run may be called again in its own folder.

    Args:
        path: The checkpoint.
        checkpoint: Its content.
        options: Options of the trainer.

    Raises:
        ValueError: The checkpoint is that of another run and has done the planned steps, or it has done more.
    """
    others = not path.resolve().is_relative_to(Path(options.default_root_dir).resolve())
    step, epochs = checkpoint["global_step"], checkpoint.get("epoch", 0)
    late = 0 <= options.max_steps < step + others
    if late or (others and 0 <= (options.max_epochs or -1) <= epochs):
        plan = f"max_steps is {options.max_steps}" if late else f"max_epochs is {options.max_epochs}"
        fault = f"nothing is left to train: {path} has done {step:,} steps, and --trainer.{plan}"
        raise ValueError(f"{fault}: plan more, or begin a new training from its weights with --weights {path}")
