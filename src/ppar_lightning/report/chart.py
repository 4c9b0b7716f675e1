"""The report as a bar chart."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ppar_lightning.report.comparison import Comparison
from ppar_lightning.report.rows import BASELINE


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Save one panel a setting: a bar a row, the standard deviation over seeds as its error, a line at the baseline."""
    heights = [1.2 + 0.3 * len(comparison.rows) for comparison in comparisons]
    figure = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = figure.subplots(len(comparisons), squeeze=False, height_ratios=heights)[:, 0]
    for axes, comparison in zip(panels, comparisons, strict=True):
        column = comparison.columns[-1]
        spreads = {row: comparison.spread(row, column) for row in comparison.rows}
        labels = [f"{row} (n={len(spread.values)})" for row, spread in spreads.items()]
        errors = [spread.deviation for spread in spreads.values()]  # matplotlib draws none for NaN
        axes.barh(labels, [spread.mean for spread in spreads.values()], xerr=errors, capsize=3, color="#5b7fa6")
        if BASELINE in spreads:
            axes.axvline(spreads[BASELINE].mean, color="0.3", linestyle="--", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(comparison.setting)
        axes.set_xlabel(f"mIoU (%), {column}")
    figure.savefig(path, dpi=120)
