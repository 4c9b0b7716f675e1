"""How a run was trained and scored, as Markdown for the card of its segmenter."""

import json
import math
from pathlib import Path
from typing import Any

LAST = "checkpoints/last.ckpt"
"""The checkpoint of a run folder that counts."""

Recorded = dict[str, Any]


def describe_run(folder: Path) -> str | None:
    """Write a run's record as Markdown, from ``manifest.json`` and ``test.json``; None without a whole manifest."""
    try:
        manifest, test = _read(folder / "manifest.json"), _read(folder / "test.json")
        if manifest is None:
            return None
        return "\n\n".join(["## Training", *_training(manifest), "## Scores", *_scores(manifest, test)])
    except (ValueError, LookupError, TypeError):  # damaged: no reason not to load the network
        return None


def _read(path: Path) -> Recorded | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _training(manifest: Recorded) -> list[str]:
    splits = [[split, each["images"], f"`{each['hash']}`"] for split, each in manifest["data"].items()]
    last = manifest["sessions"][-1]
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    minutes = sum(session["seconds"] for session in manifest["sessions"]) / 60
    state = "" if manifest["finished"] else " Training is not finished."
    return [
        _table(["split", "images", "hash of names and sizes"], splits),
        f"Seed {manifest['seed']}, {minutes:.0f} min on {last['hardware']}, git revision {last['git']}.{state}",
        f"{versions}.",
    ]


def _scores(manifest: Recorded, test: Recorded | None) -> list[str]:
    if test is None or test["started"] < manifest["sessions"][-1]["started"] or test.get("checkpoint", LAST) != LAST:
        return ["This checkpoint was not scored by `ppar test`."]
    rows = [
        [name, "unseen" if each["unseen"] else "source", each["protocol"], each["images"], _percent(each["miou"])]
        for name, each in test["domains"].items()
    ]
    if any(each["unseen"] for each in test["domains"].values()):
        rows.append(["unseen (mean)", "", "", "", _percent(test["unseen_miou"])])
    selected = ", ".join(test["target_selection"])
    how = f"Selected on unseen domains, by {selected}: no measure of them." if selected else "The last checkpoint."
    return [_table(["domain", "role", "protocol", "images", "mIoU (%)"], rows), how]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows))


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f}"
