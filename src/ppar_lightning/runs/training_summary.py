"""Summary of how a run was trained and scored, as Markdown for the model card of its segmenter."""

from pathlib import Path

from ppar_lightning.runs.manifest import read_manifest, training_cost, training_notes
from ppar_lightning.runs.markdown import table
from ppar_lightning.runs.tested_run import find_test, score_rows


def describe_run(folder: Path) -> str | None:
    """Describe the data, training and scores of a run; None if its manifest is missing or damaged."""
    try:
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        splits = [[split, str(each["images"]), f"`{each['hash']}`"] for split, each in manifest["data"].items()]
        data = table(["split", "images", "hash of names and sizes"], splits, text=3)
        cost, state = training_cost(manifest), "".join(f" {note}" for note in training_notes(manifest))
        where = f"{cost['seconds'] / 60:.0f} min on {cost['hardware']}, git revision {cost['revision']}"
        training = f"Seed {manifest['seed']}, {where}.{state}\n\n{cost['versions']}."
        scores = _scores(folder)
    except (ValueError, LookupError, TypeError):  # a damaged record must not prevent loading the network
        return None
    return f"## Training\n\n{data}\n{training}\n\n## Scores\n\n{scores}"


def _scores(folder: Path) -> str:
    """Write the scores of ``last.ckpt``, unless they were taken before the last session started."""
    test = find_test(folder)
    if test is None or test.outdated or not test.started:
        return "This checkpoint was not scored by `ppar test`."
    notes = " ".join(test.notes) or "The last checkpoint."
    head = ["domain", "role", "protocol", "images", "mIoU (%)"]
    return f"{table(head, score_rows(test.scores, ['miou'], test.intervals), text=5)}\n{notes}"
