"""Charts: bars over seeds as PNG, and the curves of a training as SVG."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ppar_lightning.report.seed_table import BASELINE, SeedTable
from ppar_lightning.runs.curves import read_metrics

GROUPS = (
    ("Losses on training crops", r"train/loss(/.+)?", "loss", 1.0),
    ("mIoU in validation", r"val/[^/]+/miou", "%", 100.0),
    ("Distance of features to their anchors", r".+/distance/(otp|vtp)", "E||z - A_y||", 1.0),
)
"""Charts of curves: title, pattern of the metrics, label of the axis, and factor that values are multiplied by."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw_bars(tables: Sequence[SeedTable], path: Path) -> None:
    """Save one panel for each setting: a bar for each row, its deviation over seeds, and a line at the baseline."""
    heights = [1.2 + 0.3 * len(seeds.rows) for seeds in tables]
    figure = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = figure.subplots(len(tables), squeeze=False, height_ratios=heights)[:, 0]
    for axes, seeds in zip(panels, tables, strict=True):
        column = seeds.columns[-1]
        own = seeds.summary().xs(column, level="domain")
        labels = [f"{row} (n={n})" for row, n in own["n"].items()]
        axes.barh(labels, own["mean"], xerr=own["deviation"], capsize=3, color="#5b7fa6")  # no error bar for NaN
        if BASELINE in seeds.rows:
            axes.axvline(own.loc[BASELINE, "mean"], color="0.3", linestyle="--", linewidth=1)
        axes.invert_yaxis()
        axes.set_title(seeds.setting + ", not as configured: see results.md" * bool(seeds.departures))
        axes.set_xlabel(f"mIoU (%), {column}")
    figure.savefig(path, dpi=120)


def draw_curves(folder: Path) -> dict[str, str]:
    """Draw the curves that the CSV logger recorded in ``ppar fit``, with all sessions in one curve.

    Returns:
        Title -> inline SVG; charts whose metrics the run did not log are missing.
    """
    metrics = read_metrics(folder)
    return {
        title: _draw(own, label, factor)
        for title, names, label, factor in GROUPS
        if (own := {name: points for name, points in metrics.items() if re.fullmatch(names, name)})
    }


def _draw(metrics: Mapping[str, Mapping[int, float]], label: str, factor: float) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": label}):
        # In inches: phones show it at about this size, so its fonts are readable there.
        figure = Figure(figsize=(4, 3), layout="constrained")
        axis = figure.subplots()
        for name, points in sorted(metrics.items()):
            steps = sorted(points)
            axis.plot(steps, [factor * points[step] for step in steps], label=name, linewidth=1.2, marker=".", ms=3)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=NO_METADATA)
    element = text.getvalue().partition("<svg")  # drop the document type before it
    return re.sub(r' id="[\w.]+_\d+"', "", "".join(element[1:]))  # two charts on a page would share these ids
