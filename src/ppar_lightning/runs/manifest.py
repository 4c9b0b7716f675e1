"""``manifest.json`` of a run folder, read back."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

UNKNOWN = "not stated"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of a run folder; None without one.

    Raises:
        ValueError: It is damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        if isinstance(manifest["sessions"], list) and isinstance(manifest["finished"], bool):
            return manifest
        raise ValueError("fields of other types")
    except (ValueError, LookupError, TypeError) as error:
        remedy = "move it away, it is a record and not needed to go on"
        raise ValueError(f"{path} is damaged ({error}): {remedy}") from error


def training_cost(manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Sum up the training over all sessions.

    Returns:
        ``seconds``, ``peak_memory`` (GiB), NaN where not recorded; ``hardware``, ``revision`` and ``versions``.
    """
    sessions = manifest["sessions"] if manifest else []
    versions = [", ".join(f"{name} {version}" for name, version in each["versions"].items()) for each in sessions]
    return {
        "seconds": round(sum(each["seconds"] for each in sessions), 1) if sessions else math.nan,
        "peak_memory": max((each["peak_memory"] for each in sessions), default=math.nan),
        "hardware": distinct(each["hardware"] for each in sessions) or UNKNOWN,
        "revision": distinct(each["git"] or UNKNOWN for each in sessions) or UNKNOWN,
        "versions": distinct(versions) or UNKNOWN,
    }


def distinct(values: Iterable[str]) -> str:
    """Join the different values by semicolons, in order of appearance; a value may be such a list itself."""
    return "; ".join(dict.fromkeys(part for value in values for part in value.split("; ")))
