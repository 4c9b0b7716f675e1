"""How a run was trained and scored, as Markdown for the card of its segmenter."""

from pathlib import Path
from typing import Any

from ppar_lightning.metrics import UNSEEN
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.markdown import number, table
from ppar_lightning.runs.run_folder import LAST
from ppar_lightning.runs.tested_run import TestedRun, find_test


def describe_run(folder: Path) -> str | None:
    """Describe the data, training and scores of a run; None without a whole manifest."""
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        parts = ["## Training", *_training(manifest), "## Scores", *_scores(manifest, find_test(folder))]
    except (ValueError, LookupError, TypeError):  # a damaged record is no reason not to load the network
        return None
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _training(manifest: dict[str, Any]) -> list[str]:
    splits = [[split, str(each["images"]), f"`{each['hash']}`"] for split, each in manifest["data"].items()]
    last = manifest["sessions"][-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    minutes = sum(session["seconds"] for session in manifest["sessions"]) / 60
    state = "" if manifest["finished"] else " Training is not finished."
    return [
        table(["split", "images", "hash of names and sizes"], splits, text=3),
        f"Seed {manifest['seed']}, {minutes:.0f} min on {last['hardware']}, git revision {last['git']}.{state}",
        f"{versions}.",
    ]


def _scores(manifest: dict[str, Any], test: TestedRun | None) -> list[str]:
    outdated = test is None or test.started < manifest["sessions"][-1]["started"]
    if test is None or outdated or test.checkpoint not in (LAST, ""):
        return ["This checkpoint was not scored by `ppar test`."]
    rows = [
        [name, score.role, score.protocol, str(score.images), number(100 * score.means["miou"])]
        for name, score in test.scores.items()
    ]
    if any(score.unseen for score in test.scores.values()):
        rows.append([UNSEEN, "", "", "", number(100 * test.unseen_mean("miou"))])
    selected = ", ".join(test.selected_on)
    how = f"Selected on unseen domains, by {selected}: no measure of them." if selected else "The last checkpoint."
    return [table(["domain", "role", "protocol", "images", "mIoU (%)"], rows, text=5), how]
