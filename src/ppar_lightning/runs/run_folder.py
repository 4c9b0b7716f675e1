"""The folder of a run: names of its files, and how it is found and recognised."""

from pathlib import Path
from typing import Any

import yaml

CONFIG = "config.yaml"
LAST = "checkpoints/last.ckpt"
"""The checkpoint that ``ppar test`` scores."""
CONFUSION = "confusion.npz"
"""Confusion matrices of the test, one array for each domain."""


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run, that is, whether ``ppar fit`` has written its config there."""
    return (folder / CONFIG).is_file()


def is_scored(folder: Path) -> bool:
    """Return whether a folder holds a run, or scores of what others have made."""
    return is_run(folder) or (folder / "test.json").is_file()


def refuse_run(folder: Path, option: str) -> None:
    """Refuse to write scores of what others have made into the folder of a run.

    Raises:
        FileExistsError: The folder holds a run.
    """
    if is_run(folder):
        raise FileExistsError(f"{folder} holds a run of `ppar fit`: give another folder with {option}")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: The config is damaged, or not that of a run.
    """
    path, remedy = folder / CONFIG, "restore the one that `ppar fit` wrote"
    if not is_run(folder):
        raise FileNotFoundError(f"{path} not found: name the folder of a run that `ppar fit` has written")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not YAML ({' '.join(str(error).split())}): {remedy}") from error
    if not isinstance(config, dict) or not {"model", "data", "seed_everything"} <= set(config):
        raise ValueError(f"{path} is not the config of a run: {remedy}")
    return config


def find_runs(folder: Path) -> list[Path]:
    """List the folders ``{row}/{seed}`` of a setting that hold runs, sorted by path."""
    return sorted(path.parent for path in folder.glob(f"*/*/{CONFIG}"))
