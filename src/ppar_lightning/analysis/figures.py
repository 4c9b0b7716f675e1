"""The figure of the diagnostics of a run, drawn from its ``diagnostics.csv``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppar_lightning.analysis.corruption import CORRUPTIONS
from ppar_lightning.analysis.diagnosis import FILE, QUANTILES, Measure, read


def draw_diagnostics(folder: str | Path) -> Path:
    """Draw ``diagnostics.csv`` of a run folder as ``pictures/diagnostics.png``.

    Returns:
        The path of the figure.

    Raises:
        FileNotFoundError: The run has no ``diagnostics.csv``.
    """
    folder = Path(folder)
    measures = read(folder / FILE)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    draw_distances(axes[0, 0], measures)
    draw_frechet(axes[0, 1], measures)
    draw_cosines(axes[1, 0], measures)
    draw_weights(axes[1, 1], measures)
    path = folder / "pictures" / "diagnostics.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    return path


def draw_distances(axis: Axes, measures: Sequence[Measure]) -> None:
    """Draw E||z - A_y|| to both anchors as a pair of bars for each domain."""
    for shift, name in ((-0.2, "vtp"), (0.2, "otp")):
        found = {each.domain: each.value for each in measures if each.measure == f"distance/{name}" and not each.label}
        axis.bar(np.arange(len(found)) + shift, list(found.values()), 0.4, label=name.upper())
        axis.set_xticks(range(len(found)), list(found))
    axis.set_title("E||z - A_y||, mean over classes")
    axis.legend(loc="lower right")


def draw_frechet(axis: Axes, measures: Sequence[Measure]) -> None:
    """Draw the Fréchet distance of each domain to the sources."""
    found = {each.domain: each.value for each in measures if each.measure == "frechet"}
    axis.bar(list(found), list(found.values()), color="tab:green")
    axis.set_title("Fréchet distance of z - OTP_y to the sources")


def draw_cosines(axis: Axes, measures: Sequence[Measure]) -> None:
    """Draw cos(VTP, OTP) as a bar for each class."""
    found = {each.label: each.value for each in measures if each.measure == "cosine/vtp_otp" and each.label}
    axis.bar(list(found), list(found.values()), color="tab:purple")
    axis.tick_params(axis="x", rotation=90, labelsize=8)
    axis.set_title("cos(VTP, OTP)")


def draw_weights(axis: Axes, measures: Sequence[Measure]) -> None:
    """Draw the quantiles of the weights as boxes, clean beside corrupted, with the area under the ROC curve."""
    values = {(each.domain, each.measure): each.value for each in measures}
    boxes = []
    for domain in dict.fromkeys(domain for domain, measure in values if measure.startswith("auc/")):
        for kind in CORRUPTIONS:
            area = values[domain, f"auc/{kind}/weight"]
            for group in ("clean", "corrupted"):
                low, q1, middle, q3, high = (values[domain, f"weight/{kind}/{group}/{q}"] for q in QUANTILES)
                label = f"{domain}, {kind}\n{group}" + (f"\nAUC {area:.2f}" if group == "corrupted" else "")
                boxes.append({"label": label, "whislo": low, "q1": q1, "med": middle, "q3": q3, "whishi": high})
    axis.bxp(boxes, showfliers=False)
    axis.axhline(1, color="grey", linewidth=0.6)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title("weights: 5, 25, 50, 75, 95 %")
