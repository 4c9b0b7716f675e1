"""A tested run, read from its folder or from the CSV that holds all runs, one line a run and domain."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ppar_lightning.runs.manifest import read_manifest

UNKNOWN = "not stated"
COLUMNS = (
    *("setting", "row", "seed", "domain", "unseen", "protocol", "images"),
    *("seconds", "peak_memory", "hardware", "revision", "versions", "selected_on"),
)


@dataclass(frozen=True)
class Score:
    """What a run reached on one domain.

    Attributes:
        unseen: whether the domain was unseen in training.
        protocol: it was scored by.
        images: that were scored.
        means: ``miou`` and what other means were taken (``miou_16``), in [0, 1].
    """

    unseen: bool
    protocol: str
    images: int
    means: dict[str, float]


@dataclass(frozen=True)
class TestedRun:
    """One row of a setting with one seed.

    Attributes:
        setting: name of the config.
        row: name of the overlay.
        seed: of everything.
        scores: domain -> score, in the order of the test.
        seconds: of training, NaN where they were not recorded.
        peak_memory: of training in GiB, NaN where it was not recorded.
        hardware: it was trained on.
        revision: of the code, from git; several where the run was continued with another.
        versions: of Python and packages.
        selected_on: metrics of unseen domains that its checkpoint was selected by; empty as it should be.
    """

    setting: str
    row: str
    seed: int
    scores: dict[str, Score]
    seconds: float = math.nan
    peak_memory: float = math.nan
    hardware: str = UNKNOWN
    revision: str = UNKNOWN
    versions: str = UNKNOWN
    selected_on: str = ""

    @property
    def title(self) -> str:
        """Setting, row and seed, as in its folder's path."""
        return f"{self.setting}/{self.row}/{self.seed}"

    def unseen_mean(self, mean: str) -> float:
        """Mean over the unseen domains, in [0, 1]; NaN without one."""
        unseen = [score.means[mean] for score in self.scores.values() if score.unseen]
        return fmean(unseen) if unseen else math.nan


def read_folder(folder: Path) -> tuple[list[TestedRun], list[Path]]:
    """Read the runs ``{row}/{seed}`` of a setting, whose name is the folder's.

    Returns:
        The runs that are trained and tested, and the folders of those that are not.

    Raises:
        FileNotFoundError: None is tested.
        ValueError: A folder is not named by its seed.
    """
    runs, unfinished = [], []
    for config in sorted(folder.glob("*/*/config.yaml")):
        manifest = read_manifest(config.parent)
        if (config.parent / "test.json").is_file() and (manifest is None or manifest["finished"]):
            runs.append(_read_run(config.parent, folder.resolve().name, manifest))
        else:
            unfinished.append(config.parent)
    if not runs:
        raise FileNotFoundError(f"{folder}: no tested run in ROW/SEED/test.json; run `make reproduce` first")
    return runs, unfinished


def _read_run(folder: Path, setting: str, manifest: dict[str, Any] | None) -> TestedRun:
    row, seed = folder.parts[-2:]
    if not seed.isdigit():
        raise ValueError(f"{folder}: the folder of a run is named by its seed, a number, not {seed!r}")
    test = json.loads((folder / "test.json").read_text())
    scores = {name: read_score(domain) for name, domain in test["domains"].items()}
    selected_on = ", ".join(test.get("target_selection", []))
    cost = _cost(manifest["sessions"]) if manifest else {}
    return TestedRun(setting, row, int(seed), scores, **cost, selected_on=selected_on)


def read_score(domain: dict[str, Any]) -> Score:
    """Read what ``test.json`` says of a domain; a mean over no class is NaN."""
    known = {name: math.nan if value is None else value for name, value in domain.items() if name.startswith("miou")}
    means = {name: round(value, 6) for name, value in known.items()}
    return Score(domain["unseen"], domain.get("protocol", UNKNOWN), domain["images"], means)


def _cost(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    versions = [", ".join(f"{name} {version}" for name, version in s["versions"].items()) for s in sessions]
    return {
        "seconds": round(sum(session["seconds"] for session in sessions), 1),
        "peak_memory": max(session["peak_memory"] for session in sessions),
        "hardware": distinct(session["hardware"] for session in sessions),
        "revision": distinct(session["git"] or UNKNOWN for session in sessions),
        "versions": distinct(versions),
    }


def distinct(values: Iterable[str]) -> str:
    """Join what differs, in order of appearance; a value may be such a list itself."""
    return "; ".join(dict.fromkeys(part for value in values for part in value.split("; ")))


def write_csv(path: Path, runs: list[TestedRun]) -> None:
    """Write one line a run and domain, from which `read_csv` reads the very same runs."""
    names = dict.fromkeys(name for run in runs for score in run.scores.values() for name in score.means)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *names], lineterminator="\n")
        writer.writeheader()
        for run in runs:
            rest = {name: getattr(run, name) for name in COLUMNS if name in run.__dataclass_fields__}
            rest = {name: "" if value != value else value for name, value in rest.items()}  # NaN
            for domain, score in run.scores.items():
                own = {"unseen": int(score.unseen), "protocol": score.protocol, "images": score.images}
                writer.writerow(rest | own | score.means | {"domain": domain})


def read_csv(path: Path) -> list[TestedRun]:
    """Read what `write_csv` wrote.

    Raises:
        ValueError: A column is missing.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}: give a results.csv of `ppar report`")
        lines = list(reader)
    runs: dict[tuple[str, ...], TestedRun] = {}
    for line in lines:
        key = line["setting"], line["row"], line["seed"]
        run = runs.setdefault(key, _run_of(line))
        means = {name: float(value) for name, value in line.items() if name not in COLUMNS and value}
        run.scores[line["domain"]] = Score(line["unseen"] == "1", line["protocol"], int(line["images"]), means)
    return list(runs.values())


def _run_of(line: dict[str, str]) -> TestedRun:
    text = {name: line[name] for name in ("setting", "row", "hardware", "revision", "versions", "selected_on")}
    numbers = {name: float(line[name] or "nan") for name in ("seconds", "peak_memory")}
    return TestedRun(seed=int(line["seed"]), scores={}, **text, **numbers)  # type: ignore[arg-type]
