"""What a test left in one run folder: ``test.json``, ``confusion.npz`` and the manifest."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.tested_run import Score, read_score

CONFUSION = "confusion.npz"
"""File of the confusion matrices, one array a domain."""


@dataclass(frozen=True)
class Record:
    """A tested run.

    Attributes:
        folder: of the run.
        scores: domain -> score, in the order of the test.
        iou: domain -> class -> IoU in [0, 1], NaN where the domain has neither ground truth nor predictions of it.
        images: split -> hash of the images that were scored, where it was recorded.
        notes: what a reader of the scores has to know, a sentence each.
    """

    folder: Path
    scores: dict[str, Score]
    iou: dict[str, dict[str, float]]
    images: dict[str, str]
    notes: list[str]


def is_run(folder: Path) -> bool:
    """Tell the folder of a run from that of a setting."""
    return (folder / "config.yaml").is_file()


def read_record(folder: Path) -> Record:
    """Read the scores of a run.

    Raises:
        FileNotFoundError: It is not tested.
        ValueError: Its ``test.json`` is not what ``ppar test`` writes.
    """
    path = folder / "test.json"
    again = f"run `ppar test --config {folder / 'config.yaml'}`"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: {again} first")
    try:
        test = json.loads(path.read_text())
        scores = {name: read_score(domain) for name, domain in test["domains"].items()}
        iou = {name: dict(map(_known, domain["iou"].items())) for name, domain in test["domains"].items()}
        images = {split: each["hash"] for split, each in test.get("data", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what `ppar test` writes ({error!r}): {again} again") from error
    return Record(folder, scores, iou, images, _notes(test, read_manifest(folder)))


def read_confusion(folder: Path) -> dict[str, npt.NDArray[np.int64]] | None:
    """Read the confusion matrix of each domain, (K, K) pixel counts, row = ground truth; None where there are none."""
    path = folder / CONFUSION
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _known(item: tuple[str, float | None]) -> tuple[str, float]:
    return item[0], math.nan if item[1] is None else item[1]


def _notes(test: dict[str, Any], manifest: dict[str, Any] | None) -> list[str]:
    notes = []
    if test.get("target_selection"):
        selected = ", ".join(test["target_selection"])
        notes.append(f"The checkpoint was selected on unseen domains, by {selected}: no measure of them.")
    if manifest is not None and not manifest.get("finished"):
        notes.append("Training is not finished.")
    return notes
