"""The report as a CSV of means over seeds and of paired differences."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from ppar_lightning.report.comparison import Comparison

HEADER = (
    *("setting", "row", "domain", "metric", "n", "mean", "deviation"),
    *("paired_n", "difference", "difference_deviation", "wins"),
)


def write_summary(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write one line a row and domain, the mean over the unseen among them; in per cent, empty where there is none."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for comparison in comparisons:
            for mean in comparison.means:
                writer.writerows(_lines(comparison, mean))


def _lines(comparison: Comparison, mean: str) -> Iterable[list[str]]:
    for row in comparison.rows:
        for column in comparison.columns:
            score = comparison.spread(row, column, mean)
            gain = comparison.difference(row, column, mean=mean)
            cells = [comparison.setting, row, column, mean, str(len(score.values)), _cell(score.mean)]
            cells += [_cell(score.deviation), str(len(gain.values)), _cell(gain.mean), _cell(gain.deviation)]
            yield [*cells, str(gain.wins) if gain.values else ""]


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
