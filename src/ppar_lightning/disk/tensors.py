"""Safe reading of files of tensors: no code in them is run, wherever they come from."""

import re
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file

ENTRIES: dict[str, type] = {"state_dict": dict, "global_step": int, "pytorch-lightning_version": str}
"""Entries that every checkpoint of a run has, but not a file that holds only weights, with their types."""

TRAINING: dict[str, type] = {"loops": dict, "optimizer_states": list, "lr_schedulers": list}
"""Further entries that are needed to continue a training, with their types."""


def read_checkpoint(path: Path, training: bool = False) -> dict[str, Any]:
    """Read a run's checkpoint to the CPU. Tensors are memory-mapped, so they are read when they are used.

    Args:
        path: The checkpoint.
        training: Whether the checkpoint must hold what continuing a training needs.

    Raises:
        ValueError: The file is damaged, is not a checkpoint of a run, or would run code.
    """
    remedy = "give a checkpoint that `ppar fit` has written"
    content = read_tensors(path, remedy)
    entries = content if isinstance(content, dict) else {}
    for entry, kind in (ENTRIES | (TRAINING if training else {})).items():
        if not isinstance(entries.get(entry), kind):
            raise ValueError(f"{path} holds no {entry}; {remedy}")
    return entries


def read_tensors(path: Path, remedy: str) -> Any:
    """Read a file of ``torch.save`` that contains only tensors and plain values, or a ``.safetensors`` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another kind, or would run code; the message ends with ``remedy``.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # warnings about a pickle that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} not found: {remedy}") from error
    except Exception as error:  # torch raises many kinds of error for a damaged file
        raise ValueError(f"{path} cannot be read ({cause(error)}); {remedy}") from error


def cause(error: Exception) -> str:
    """Say in a few words why a file of weights cannot be read, or that it was refused because it would run code."""
    if not isinstance(error, UnpicklingError):
        return re.split(r"\.\s|\n", str(error).strip())[0] or type(error).__name__
    named = re.search(r"GLOBAL (\S+)", str(error))
    what = f"it would run {named[1]}" if named else "it is a pickle of something else"
    return f"refused: {what}; weights are tensors and plain values"
