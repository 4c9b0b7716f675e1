"""``manifest.json`` of a run folder, read back."""

import json
from pathlib import Path
from typing import Any


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
