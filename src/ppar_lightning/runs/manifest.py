"""Reading ``manifest.json`` of a run folder."""

import json
import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ppar_lightning.runs.changed_options import described

UNKNOWN = "not stated"
"""Text in place of a fact that was not recorded."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read the manifest of a run folder; None if there is none.

    Raises:
        ValueError: The manifest is damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
        if isinstance(manifest["sessions"], list) and isinstance(manifest["finished"], bool):
            return manifest
        raise ValueError("sessions or finished has another type")
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): move it away, as a run continues without it") from error


def session_end(session: dict[str, Any]) -> str:
    """Return the time at which a session ended, or made its last checkpoint, in ISO 8601; empty if not recorded."""
    try:
        end = datetime.fromisoformat(session["started"]) + timedelta(seconds=int(session["seconds"]))
    except (LookupError, TypeError, ValueError):
        return ""
    return end.isoformat(timespec="seconds")


def training_notes(manifest: dict[str, Any]) -> list[str]:
    """Write what a reader of a run's scores should know about its training, one sentence each."""
    steps, origin = manifest.get("steps"), manifest.get("origin")
    done = f" {steps['done']:,} of {steps['planned']:,} steps" if steps else ""
    changed = described(manifest.get("overrides", {}))
    notes = [f"Trained with {changed}."] if changed else []
    if not manifest["finished"]:
        notes.append(f"Training is not finished{':' * bool(done)}{done}.")
    elif manifest.get("early_stop") is not None:
        notes.append(f"EarlyStopping ended training after{done}, before the end of its schedules.")
    if started := manifest.get("weights"):
        notes.append(f"Training started from the weights of `{started['checkpoint']}` ({', '.join(started['taken'])}).")
    if origin:
        known = ", ".join(f"{name} {origin[name]}" for name in ("step", "seed") if origin.get(name) is not None)
        where = f"`{origin['checkpoint']}` ({known or UNKNOWN})"
        notes.append(f"Training continued from {where}, whose time is not included.")
    return notes


def training_cost(manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Sum up the training over all sessions.

    Returns:
        ``seconds`` (summed) and ``peak_memory`` (GiB, the largest), NaN if not recorded; ``hardware``, ``revision`` and
        ``versions`` as text.
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
    """Join different values by semicolons, in order of appearance; a value may itself be such a list."""
    return "; ".join(dict.fromkeys(part for value in values for part in value.split("; ")))
