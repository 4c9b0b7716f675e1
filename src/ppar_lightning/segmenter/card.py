"""The card of a shared model: what it was trained on, how it was scored, how it is loaded."""

import json
import math
from pathlib import Path
from typing import Any

LAST = "checkpoints/last.ckpt"
"""The checkpoint of a run folder that counts."""

ABOUT: dict[str, Any] = {
    "library_name": "ppar-lightning",
    "license": "apache-2.0",
    "pipeline_tag": "image-segmentation",
    "paper_url": "https://arxiv.org/abs/2507.11955",
    "tags": ["semantic-segmentation", "domain-generalization"],
}
"""What huggingface_hub writes at the head of a card."""

CARD = """---
{{ card_data }}
---

# Semantic segmentation for domains it never saw

A network of `ppar_lightning`, an independent implementation of *Prototypical Progressive Alignment and Reweighting for
Generalizable Semantic Segmentation* ([arXiv 2507.11955]({{ paper_url }})).

It predicts {{ predicts }}.

```python
from ppar_lightning import load_segmenter

label = load_segmenter("{{ model_id | default('FOLDER', true) }}").predict("picture.png")  # (H, W) train ids
```

{{ record | default('How it was trained was not recorded.', true) }}

Licence of this network's code and weights: Apache-2.0; those of the images it was trained on may restrict their use.
"""
"""Template of a card; `record` is Markdown, `predicts` says which classes."""

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
