"""The folder of a run: how it is recognised, and the names of its files."""

from pathlib import Path

CONFIG = "config.yaml"
LAST = "checkpoints/last.ckpt"
"""The checkpoint that ``ppar test`` scores."""
CONFUSION = "confusion.npz"
"""Confusion matrices of the test, one array for each domain."""


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run: ``ppar fit`` has written its config there."""
    return (folder / CONFIG).is_file()


def find_runs(folder: Path) -> list[Path]:
    """Folders ``{row}/{seed}`` of the runs of a setting, sorted by path."""
    return sorted(path.parent for path in folder.glob(f"*/*/{CONFIG}"))
