"""Runs of one setting side by side: means over seeds, and differences paired by seed."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from ppar_lightning.report.rows import BASELINE, in_order
from ppar_lightning.runs.tested_run import TestedRun

UNSEEN = "unseen (mean)"


@dataclass(frozen=True)
class Spread:
    """Values by seed, in per cent or points of it."""

    values: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds; NaN without one."""
        return statistics.fmean(self.values.values()) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, of a sample (n - 1); NaN for fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else math.nan

    @property
    def wins(self) -> int:
        """Number of seeds whose value is above 0."""
        return sum(value > 0 for value in self.values.values())

    def minus(self, other: "Spread") -> "Spread":
        """Difference over the seeds that both have."""
        return Spread({seed: value - other.values[seed] for seed, value in self.values.items() if seed in other.values})


class Comparison:
    """Rows of one setting, whose runs were all scored on the same domains in the same way.

    Args:
        runs: of the setting.

    Raises:
        ValueError: Two runs were scored differently, so that no column can hold both; or a run is there twice.
    """

    def __init__(self, runs: list[TestedRun]) -> None:
        for run in runs[1:]:
            check_comparable(runs[0], run)
        titles = [run.title for run in runs]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice:
            raise ValueError(f"{twice} is given twice: report a folder or its CSV, not both")
        self.setting = runs[0].setting
        self.scores = runs[0].scores
        self.domains = sorted(self.scores, key=lambda name: self.scores[name].unseen)  # sources first
        self.means = list(next(iter(self.scores.values())).means)
        rows = in_order(run.row for run in runs)
        self.rows = {row: sorted((r for r in runs if r.row == row), key=lambda r: r.seed) for row in rows}

    @property
    def columns(self) -> list[str]:
        """Domains, and their mean over the unseen if there are any."""
        return [*self.domains, UNSEEN] if any(score.unseen for score in self.scores.values()) else self.domains

    def spread(self, row: str, column: str, mean: str = "miou") -> Spread:
        """Scores of a row in per cent."""

        def score(run: TestedRun) -> float:
            return run.unseen_mean(mean) if column == UNSEEN else run.scores[column].means[mean]

        return Spread({run.seed: 100 * score(run) for run in self.rows[row]})

    def difference(self, row: str, column: str, other: str = BASELINE, mean: str = "miou") -> Spread:
        """A row minus another, by default the baseline, over the seeds that both have; empty where one is missing."""
        if row not in self.rows or other not in self.rows or row == other:
            return Spread({})
        return self.spread(row, column, mean).minus(self.spread(other, column, mean))


def check_comparable(first: TestedRun, other: TestedRun) -> None:
    """Compare how two runs were scored.

    Raises:
        ValueError: They were scored on other domains, by other protocols, on other images or with other means.
    """
    if set(first.scores) != set(other.scores):
        names = (", ".join(run.scores) for run in (first, other))
        raise _incomparable(first, other, "the domains {} and {}".format(*names))
    for domain in first.scores:
        for what in ("unseen", "protocol", "images", "means"):
            values = [getattr(run.scores[domain], what) for run in (first, other)]
            one, two = (", ".join(value) if what == "means" else value for value in values)
            if one != two:
                raise _incomparable(first, other, f"{domain} with {what} {one!r} and {two!r}")


def _incomparable(first: TestedRun, other: TestedRun, what: str) -> ValueError:
    return ValueError(
        f"{first.title} and {other.title} were scored on {what}: such numbers do not belong in one column; "
        "test the runs again in the same way, or keep them in folders of their own"
    )
