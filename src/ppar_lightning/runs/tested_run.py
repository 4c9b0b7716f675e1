"""A tested run, read from ``test.json``, ``confusion.npz`` and ``manifest.json`` in its folder."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt

from ppar_lightning.images.classes import CITYSCAPES, ClassList, class_list
from ppar_lightning.metrics import UNSEEN, unseen_mean
from ppar_lightning.runs.changed_options import described
from ppar_lightning.runs.manifest import UNKNOWN, read_manifest, session_end, training_notes
from ppar_lightning.runs.markdown import number
from ppar_lightning.runs.run_folder import CONFIG, CONFUSION, LAST

Intervals = Mapping[str, Mapping[str, Sequence[float]]]
"""Domain, or UNSEEN for their mean -> name of a mean -> the two ends of its interval, in [0, 1]."""


@dataclass(frozen=True)
class Score:
    """Scores of a run on one domain.

    Attributes:
        unseen: Whether the domain was unseen in training.
        protocol: Title of the protocol that the domain was scored by.
        images: Number of images that were scored.
        images_of: Number of images in the split that the protocol scores.
        means: Means over classes by name: ``miou``, for SYNTHIA also ``miou_16`` and ``miou_13``; in [0, 1].
        iou: IoU by class in [0, 1]; NaN for a class with neither ground truth nor predictions.
    """

    unseen: bool
    protocol: str
    images: int
    images_of: int
    means: dict[str, float]
    iou: dict[str, float]

    @property
    def columns(self) -> dict[str, float]:
        """Means, then the IoU of each class, by name; ``iou/{class}`` for a class with the name of another column."""
        taken = {"domain", "role", "protocol", "images", "images_of", *self.means}
        return self.means | {f"iou/{name}" if name in taken else name: value for name, value in self.iou.items()}

    @property
    def role(self) -> str:
        """``unseen`` or ``source``."""
        return "unseen" if self.unseen else "source"

    @property
    def counted(self) -> str:
        """Number of images that were scored; ``12 of 500`` for a part of the split."""
        return count_of(self.images, self.images_of)


@dataclass(frozen=True)
class TestedRun:
    """A run that ``ppar test`` has scored.

    Attributes:
        scores: Domain -> score, in the order of the test.
        data: Split -> fingerprint of the images that were scored; empty if not recorded.
        selected_on: Metrics of unseen domains that the checkpoint was selected by; empty in a fair test.
        changes: Options that differed from the training's, a phrase each.
        checkpoint: Path of the scored checkpoint, relative to the run folder if it lies there; empty if not recorded.
        started: Time in ISO 8601 at which the test started; empty if not recorded.
        manifest: The manifest of the run; None if there is none.
        classes: The classes that were scored in.
        known: Those that the segmenter knows, over which means are taken.
        model: Name of the model, or of the folder of maps, that others have made; None for a run of ``ppar fit``.
        intervals: Domain, or UNSEEN -> mean -> the ends of its interval, in [0, 1]; empty unless asked for.
    """

    __test__ = False  # otherwise pytest would collect the class as a test

    scores: dict[str, Score]
    data: dict[str, dict[str, Any]]
    selected_on: list[str]
    changes: list[str]
    checkpoint: str
    started: str
    manifest: dict[str, Any] | None
    classes: ClassList = CITYSCAPES
    known: Sequence[str] = CITYSCAPES
    model: str | None = None
    intervals: Intervals = field(default_factory=dict)

    @property
    def unseen_means(self) -> dict[str, float]:
        """Name of each mean, ``miou`` first -> its average over the unseen domains, in [0, 1]; NaN without any."""
        return mean_over_unseen(self.scores)

    @property
    def finished(self) -> bool:
        """Whether training is finished; True for a run without a manifest."""
        return self.manifest is None or self.manifest["finished"]

    @property
    def outdated(self) -> bool:
        """Whether the scores are those of another checkpoint than the last one, or older than the last training."""
        sessions = self.manifest["sessions"] if self.manifest else []
        trained = session_end(sessions[-1]) if sessions else ""
        return self.checkpoint not in (LAST, "") or "" < self.started < trained

    @property
    def departures(self) -> list[str]:
        """What sets the scores apart from those of the setting and its protocols, a phrase each."""
        trained, changes = described((self.manifest or {}).get("overrides", {})), "; ".join(self.changes)
        tested = [f"tested with other options ({changes})"] if changes else []
        if len(self.known) < len(self.classes):
            names = shorten(", ".join(self.known), 200)
            tested.append(f"scored on {len(self.known)} of {len(self.classes)} classes ({names})")
        return [*([f"trained with {trained}"] if trained else []), *part_of(self.scores), *tested]

    @property
    def notes(self) -> list[str]:
        """Warnings for a reader of the scores, one sentence each."""
        metrics = ", ".join(self.selected_on)
        selected = f"The checkpoint was selected on unseen domains, by {metrics}: scores on them are biased."
        notes = [selected] * bool(self.selected_on) + (training_notes(self.manifest) if self.manifest else [])
        notes += ["The scores are not those of last.ckpt as it is now."] * self.outdated
        notes += [f"Others have made what was scored: {self.model}."] if self.model else []
        return list(dict.fromkeys([*notes, *map(sentence, self.departures)]))


def sentence(phrase: str) -> str:
    """Make a sentence of a phrase."""
    return f"{phrase[0].upper()}{phrase[1:]}."


def count_of(images: int, images_of: int) -> str:
    """Write a number of images; ``12 of 500`` if they are a part of a split."""
    return str(images) if images == images_of else f"{images} of {images_of}"


def part_of(scores: Mapping[str, Score]) -> list[str]:
    """Return a phrase that names the domains of which only a part of the images was scored; none without such."""
    parts = ", ".join(f"{name} {score.counted}" for name, score in scores.items() if score.images != score.images_of)
    return [f"scored on a part of the images ({parts})"] if parts else []


def score_rows(
    scores: Mapping[str, Score], means: Sequence[str], intervals: Intervals | None = None
) -> list[list[str]]:
    """Write a row per domain, and one of the unseen domains if there are some: name, role, protocol, images, means."""
    rows = [(name, [each.role, each.protocol, each.counted], each.means) for name, each in scores.items()]
    unseen = {domain: each for domain, each in scores.items() if each.unseen}
    if unseen:
        rows.append((UNSEEN, ["", "", "of parts" if part_of(unseen) else ""], mean_over_unseen(scores)))

    def cells(domain: str, values: Mapping[str, float]) -> list[str]:
        ends = (intervals or {}).get(domain, {})
        return [with_interval(values.get(name, math.nan), ends.get(name)) for name in means]

    return [[domain, *about, *cells(domain, values)] for domain, about, values in rows]


def with_interval(value: float, ends: Sequence[float] | None = None) -> str:
    """Write a score in per cent, and the ends of its interval if it has one: ``36.8 [35.1, 38.4]``."""
    return number(100 * value) + (f" [{', '.join(number(100 * end) for end in ends)}]" if ends else "")


def mean_over_unseen(scores: Mapping[str, Score]) -> dict[str, float]:
    """Average each mean over classes, such as ``miou``, over the unseen domains, in [0, 1]; NaN if there are none."""
    names = dict.fromkeys(name for score in scores.values() for name in score.means)
    unseen = [name for name, score in scores.items() if score.unseen]
    return {
        mean: unseen_mean({name: score.means.get(mean, math.nan) for name, score in scores.items()}, unseen)
        for mean in names
    }


def read_test(folder: Path) -> TestedRun:
    """Read the test of a run.

    Raises:
        FileNotFoundError: The run has not been tested.
        ValueError: ``test.json`` or the manifest is damaged.
    """
    path, command = folder / "test.json", f"run `ppar test --config {folder / CONFIG}`"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: {command} first")
    try:
        test = json.loads(path.read_text())
        scores = {name: _score(domain) for name, domain in test["domains"].items()}
        selected, data = list(test.get("target_selection", [])), dict(test.get("data", {}))
        changes = list(test.get("changes", []))
        checkpoint, started = test.get("checkpoint", ""), test.get("started", "")
        classes = class_list(test.get("classes", "cityscapes19"))
        known = list(test.get("known", classes))
        model, ends = (test.get("model") or {}).get("name"), (test.get("ci") or {}).get("intervals", {})
        ends = {domain: {mean: [*map(_number, pair)] for mean, pair in own.items()} for domain, own in ends.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what `ppar test` writes ({error!r}): {command} again") from error
    manifest = read_manifest(folder)
    return TestedRun(scores, data, selected, changes, checkpoint, started, manifest, classes, known, model, ends)


def find_test(folder: Path) -> TestedRun | None:
    """Read the test of a run; None if it is missing or damaged."""
    with suppress(OSError, ValueError):
        return read_test(folder)
    return None


def read_confusion(folder: Path) -> dict[str, npt.NDArray[np.int64]]:
    """Read the confusion matrix of each domain; empty if the test kept none.

    Returns:
        Domain -> pixel counts, row = ground truth, column = prediction: (K, K), or (K + 1, K + 1) if the segmenter has
        other classes; the last column then counts predictions of classes that were not scored.
    """
    path = folder / CONFUSION
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _score(domain: dict[str, Any]) -> Score:
    """Read the entry of a domain; null stands for NaN."""
    means = {name: round(_number(value), 6) for name, value in domain.items() if name.startswith("miou")}
    iou = {name: _number(value) for name, value in domain["iou"].items()}
    images = domain["images"]
    return Score(domain["unseen"], domain.get("protocol", UNKNOWN), images, domain.get("images_of", images), means, iou)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
