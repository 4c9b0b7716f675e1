"""Runs side by side: their scores, and each one's differences to the first, by domain and class."""

import csv
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console

from ppar_lightning.images.classes import CLASSES
from ppar_lightning.report.markdown import mean_title, number
from ppar_lightning.report.sheet import Sheet
from ppar_lightning.runs.record import read_record

UNSEEN = "unseen in all (mean)"


class Contrast:
    """Tested runs, the first of which the others are compared with.

    Args:
        folders: of two runs or more.

    Raises:
        FileNotFoundError: A run is not tested.
        ValueError: A run is given twice; or two were scored on a domain by other protocols, or on other images.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        whole = [folder.resolve() for folder in folders]
        for place, folder in enumerate(whole):
            if folder in whole[:place]:
                raise ValueError(f"{folders[place]} is given twice: name each run once")
        root = os.path.commonpath([folder.parent for folder in whole])
        titles = [folder.relative_to(root).as_posix() for folder in whole]
        self.runs = {title: read_record(folder) for title, folder in zip(titles, folders, strict=True)}
        self.domains = list(dict.fromkeys(name for run in self.runs.values() for name in run.scores))
        for domain in self.domains:
            self._check(domain)

    def _check(self, domain: str) -> None:
        (first, run), *others = ((title, run) for title, run in self.runs.items() if domain in run.scores)
        for other, each in others:
            for what in ("protocol", "images"):
                one, two = (getattr(record.scores[domain], what) for record in (run, each))
                if one != two:
                    raise ValueError(
                        f"{first} and {other} were scored on {domain} with {what} {one!r} and {two!r}: such numbers do "
                        "not belong in one column; test the runs again in the same way"
                    )

    @property
    def means(self) -> list[str]:
        """``miou``, and what other means a run has."""
        return list(dict.fromkeys(m for run in self.runs.values() for each in run.scores.values() for m in each.means))

    @property
    def unseen(self) -> list[str]:
        """Domains that every run was scored on and none was trained on."""
        return [d for d in self.domains if all(d in r.scores and r.scores[d].unseen for r in self.runs.values())]

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of the runs, a sentence each."""
        notes = [f"{title}: {note}" for title, run in self.runs.items() for note in run.notes]
        first, *others = self.runs.values()
        for title, run in zip(list(self.runs)[1:], others, strict=True):
            splits = [
                split for split in first.images if run.images.get(split, first.images[split]) != first.images[split]
            ]
            notes += [f"{title} was scored on other images of {split} than the first run." for split in splits]
        return notes

    def score(self, title: str, domain: str, label: str) -> float:
        """Score of a run in per cent: a mean or the IoU of a class; NaN where there is none."""
        run = self.runs[title]
        if domain == UNSEEN:
            return fmean(self.score(title, name, label) for name in self.unseen) if self.unseen else math.nan
        if domain not in run.scores:
            return math.nan
        return 100 * (run.scores[domain].means | run.iou[domain]).get(label, math.nan)

    def difference(self, title: str, domain: str, label: str) -> float:
        """A run minus the first, in points of per cent; NaN where one of them has no score."""
        return self.score(title, domain, label) - self.score(next(iter(self.runs)), domain, label)

    def sheets(self) -> Iterator[Sheet]:
        """Yield domain x run of each mean, and class x domain of each other run's differences to the first."""
        columns = [*self.domains, UNSEEN] if self.unseen else self.domains
        for mean in self.means:
            rows = [
                [*self._about(domain), *(number(self.score(title, domain, mean)) for title in self.runs)]
                for domain in columns
            ]
            yield Sheet(f"{mean_title(mean)} (%)", ["domain", "role", "protocol", "images", *self.runs], rows, 3)
        first, *others = self.runs
        protocols = [self._about(domain)[2] for domain in columns]
        for title in others:
            rows = [["protocol", *protocols]]
            for label in (*self.means, *CLASSES):
                gains = (self.difference(title, domain, label) for domain in columns)
                head = mean_title(label) if label in self.means else label
                rows.append([head, *(number(gain, "+.1f") for gain in gains)])
            yield Sheet(f"IoU, {title} minus {first} (points)", ["class", *columns], rows, 1)

    def _about(self, domain: str) -> list[str]:
        """The domain, its role, protocol and number of images."""
        if domain == UNSEEN:
            return [domain, "", ", ".join(dict.fromkeys(self._about(each)[2] for each in self.unseen)), ""]
        scores = [run.scores[domain] for run in self.runs.values() if domain in run.scores]
        roles = dict.fromkeys("unseen" if score.unseen else "source" for score in scores)
        return [domain, " / ".join(roles), scores[0].protocol, str(scores[0].images)]


def contrast(folders: Sequence[Path], output: Path | None) -> None:
    """Print runs side by side; write ``compare.md`` and ``compare.csv`` where a folder is given."""
    compared = Contrast(folders)
    sheets, console = list(compared.sheets()), Console()
    for sheet in sheets:
        console.print(sheet.printed())
    for note in compared.notes:
        console.print(note, highlight=False, markup=False)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        parts = ["# Runs side by side\n", *(sheet.markdown() for sheet in sheets), *(f"{n}\n" for n in compared.notes)]
        (output / "compare.md").write_text("\n".join(parts))
        _write_csv(output / "compare.csv", compared)
        console.print(f"Written to {output}: compare.md, compare.csv", highlight=False, markup=False, soft_wrap=True)


def _write_csv(path: Path, compared: Contrast) -> None:
    """Write a line a run, domain and class or mean: per cent, and the difference to the first run."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "domain", "protocol", "images", "score", "value", "difference"])
        for title, run in compared.runs.items():
            for domain, score in run.scores.items():
                for label in (*score.means, *run.iou[domain]):
                    values = compared.score(title, domain, label), compared.difference(title, domain, label)
                    cells = ("" if math.isnan(value) else f"{value:.4f}" for value in values)
                    writer.writerow([title, domain, score.protocol, score.images, label, *cells])
