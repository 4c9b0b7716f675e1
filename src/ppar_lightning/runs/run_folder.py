"""The folder of a run: how it is recognised, and the names of its files."""

from pathlib import Path
from typing import Any

import yaml

CONFIG = "config.yaml"
LAST = "checkpoints/last.ckpt"
"""The checkpoint that ``ppar test`` scores."""
CONFUSION = "confusion.npz"
"""Confusion matrices of the test, one array for each domain."""


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run: ``ppar fit`` has written its config there."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a run.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: The config is damaged.
    """
    path = folder / CONFIG
    if not is_run(folder):
        raise FileNotFoundError(f"{path} not found: name the folder of a run that `ppar fit` has written")
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not YAML ({' '.join(str(error).split())}): restore it") from error
    if not isinstance(config, dict) or not {"model", "data", "seed_everything"} <= set(config):
        raise ValueError(f"{path} is not the config of a run: restore the one that `ppar fit` wrote")
    return config


def find_runs(folder: Path) -> list[Path]:
    """Folders ``{row}/{seed}`` of the runs of a setting, sorted by path."""
    return sorted(path.parent for path in folder.glob(f"*/*/{CONFIG}"))
