"""The figures of an earlier test of a run, which stay beside those of the present one."""

import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ppar_lightning.runs.run_folder import CONFUSION


def keep_earlier(folder: Path, domains: Mapping[str, Any]) -> Path | None:
    """Rename the files of an earlier test to ``test.{n}.json`` and so on, unless its scores are those of this test.

    Args:
        folder: The run folder.
        domains: ``domains`` of the present ``test.json``.

    Returns:
        The ``test.{n}.json``; None if there is nothing to keep.
    """
    path = folder / "test.json"
    try:
        earlier = json.loads(path.read_text())["domains"]
        if {name: domains.get(name, {}) | each for name, each in earlier.items()} == domains:  # 0.2.0 wrote fewer keys
            return None
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        pass  # a damaged one is not thrown away either
    number = next(number for number in count(1) if not (folder / f"test.{number}.json").exists())
    for name in (CONFUSION, "test.csv", "test.json"):
        stem, suffix = name.split(".")
        if (folder / name).exists():
            (folder / name).replace(folder / f"{stem}.{number}.{suffix}")
    return folder / f"test.{number}.json"
