"""The figures of an earlier test of a run, which stay beside those of the present one."""

import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from ppar_lightning.runs.run_folder import CONFUSION


def keep_earlier(folder: Path, figures: Mapping[str, Any]) -> Path | None:
    """Rename the files of an earlier test to ``test.{n}.json`` and so on, unless its scores and intervals are the same.

    Args:
        folder: The run folder.
        figures: Content of the present ``test.json``.

    Returns:
        The ``test.{n}.json``; None if there is nothing to keep.
    """
    path = folder / "test.json"
    if not path.is_file():
        return None
    with suppress(ValueError, LookupError, TypeError, AttributeError):  # a damaged one is not thrown away either
        earlier = json.loads(path.read_text())
        if earlier["domains"] == figures["domains"] and earlier.get("ci") in (None, figures.get("ci")):
            return None
    number = next(number for number in count(1) if not (folder / f"test.{number}.json").exists())
    for name in (CONFUSION, "test.csv", "test.json"):
        stem, suffix = name.split(".")
        if (folder / name).exists():
            (folder / name).replace(folder / f"{stem}.{number}.{suffix}")
    return folder / f"test.{number}.json"
