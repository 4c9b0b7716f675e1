"""The figure of the diagnostics of a run."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppar_lightning.analysis.corruption import CORRUPTIONS
from ppar_lightning.analysis.diagnosis import QUANTILES


def draw_diagnostics(measures: pd.DataFrame, path: Path) -> None:
    """Save the figure of a run's measures as PNG, and create its folder.

    Args:
        measures: From :func:`~ppar_lightning.analysis.diagnosis.diagnose`.
        path: The PNG file to write.
    """
    means = measures[(measures["class"] == "") & (measures["domain"] != "")]
    domains = means.pivot(index="domain", columns="measure", values="value").loc[means["domain"].unique()]
    cosines = measures[(measures["measure"] == "cosine/vtp_otp") & (measures["class"] != "")]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (upper_left, upper_right), (lower_left, lower_right) = figure.subplots(2, 2)
    for shift, name in ((-0.2, "vtp"), (0.2, "otp")):
        upper_left.bar(np.arange(len(domains)) + shift, domains[f"distance/{name}"], 0.4, label=name.upper())
    upper_left.set_xticks(range(len(domains)), domains.index)
    upper_left.set_title("E||z - A_y||, mean over classes")
    upper_left.legend(loc="lower right")
    upper_right.bar(domains.index, domains["frechet"], color="tab:green")
    upper_right.set_title("Fréchet distance of z - OTP_y to the sources")
    lower_left.bar(cosines["class"], cosines["value"], color="tab:purple")
    lower_left.tick_params(axis="x", rotation=90, labelsize=min(8, 250 / max(1, len(cosines))))
    lower_left.set_title("cos(VTP, OTP)")
    draw_weights(lower_right, domains.filter(regex="^(auc|weight)/").dropna(how="all"))
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)


def draw_weights(axis: Axes, sources: pd.DataFrame) -> None:
    """Draw the quantiles of the weights as boxes, clean beside corrupted, with the area under the ROC curve.

    Args:
        axis: Axes to draw on.
        sources: Table of sources x measures.
    """
    boxes = []
    for domain, values in sources.iterrows():
        for kind in CORRUPTIONS:
            for group, area in (("clean", ""), ("corrupted", f"\nAUC {values[f'auc/{kind}/weight']:.2f}")):
                low, q1, middle, q3, high = (values[f"weight/{kind}/{group}/{quantile}"] for quantile in QUANTILES)
                label = f"{domain}, {kind}\n{group}{area}"
                boxes.append({"label": label, "whislo": low, "q1": q1, "med": middle, "q3": q3, "whishi": high})
    axis.bxp(boxes, showfliers=False)
    axis.axhline(1, color="grey", linewidth=0.6)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title("weights: 5, 25, 50, 75, 95 %")
