"""The curves of a training as SVG that takes the colours of the page it stands in."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from ppar_lightning.callbacks.loggers import read_rows

GROUPS = (
    ("Losses on training crops", r"train/loss(/.+)?", "loss", 1.0),
    ("mIoU in validation", r"val/[^/]+/miou", "%", 100.0),
    ("Distance of features to their anchors", r".+/distance/(otp|vtp)", "E||z - A_y||", 1.0),
)
"""Title, names of the metrics, label of the axis, factor."""

FIGURE = (4, 3)
"""Width and height in inches, which a phone shows at that size: the fonts are to be read there."""

INK = "#012345"  # stands for the colour of the page's text until the SVG is written
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}

Points = dict[int, float]
"""Step -> value."""


class Curves(NamedTuple):
    """A picture of some metrics."""

    title: str
    svg: str
    """Inline; empty where the run logged no such metric."""


def draw_curves(folder: Path) -> list[Curves] | None:
    """Draw what the CSV logger left of ``ppar fit``, sessions one after the other; None where it left nothing."""
    metrics = read_metrics(folder)
    if not metrics:
        return None
    return [
        Curves(title, _draw({name: metrics[name] for name in metrics if re.fullmatch(names, name)}, label, factor))
        for title, names, label, factor in GROUPS
    ]


def read_metrics(folder: Path) -> dict[str, Points]:
    """Read the metrics by name; where a session repeats steps of an earlier one that was cut off, the later counts."""
    metrics: dict[str, Points] = {}
    versions = (folder / "curves" / "fit").glob("version_*/metrics.csv")
    for path in sorted(versions, key=lambda path: int(path.parent.name.rpartition("_")[2])):
        for row in read_rows(path):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    metrics.setdefault(name, {})[int(row["step"])] = float(value)
    return metrics


def _draw(metrics: Mapping[str, Points], label: str, factor: float) -> str:
    if not metrics:
        return ""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": label}):
        figure = Figure(figsize=FIGURE, layout="constrained")
        axis = figure.subplots()
        for name, points in sorted(metrics.items()):
            steps = sorted(points)
            axis.plot(steps, [factor * points[step] for step in steps], label=name, linewidth=1.2, marker=".", ms=3)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.grid(color=INK, alpha=0.15)
        axis.legend(fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue())


def _inline(svg: str) -> str:
    """Leave the element alone: no document type, metadata or size, nor names that two pictures would share."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    return svg.replace(INK, "currentColor")
