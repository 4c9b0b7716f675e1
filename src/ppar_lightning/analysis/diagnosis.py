"""All measures of a run in one table, ``diagnostics.csv``.

write(diagnose(run), run.folder / "diagnostics.csv")
"""

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppar_lightning.analysis.corruption import CORRUPTIONS
from ppar_lightning.analysis.distance import anchor_distance, domain_distance
from ppar_lightning.analysis.features import Features, collect
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.analysis.weighing import compare
from ppar_lightning.images.classes import CLASSES

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FILE = "diagnostics.csv"


class Measure(NamedTuple):
    """A figure: ``measure`` of a ``domain`` and a class, either empty where it is for none or the mean of all."""

    measure: str
    domain: str
    label: str
    value: float


def diagnose(run: LoadedRun, images: int = 60, limit: int = 200) -> list[Measure]:
    """Measure a run.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        images: Read from each domain.
        limit: Positions of each class and domain.

    Returns:
        ``distance/otp``, ``distance/vtp`` by domain and class and as mean over classes; ``frechet`` of each domain to
        the sources together, under OTP; ``cosine/vtp_otp`` by class and as mean; and of each source, for each
        corruption, ``auc/{kind}/{margin,weight}`` and the quantiles ``weight/{kind}/{clean,corrupted}/{quantile}``.

    Raises:
        ValueError: If the run was trained without PPAR.
    """
    memory = run.objective.prototypes
    anchors = {"otp": memory.otp.cpu(), "vtp": memory.bank.cpu()}
    features = {domain: collect(run, domain, images, limit) for domain in run.domains}
    pool = Features(
        *(torch.cat(part) for part in zip(*(features[name] for name in run.data.source_names), strict=True))
    )
    rows = list(by_class("cosine/vtp_otp", "", (anchors["vtp"] * anchors["otp"]).sum(dim=1)))
    for domain, own in features.items():
        for name, anchor in anchors.items():
            rows += by_class(f"distance/{name}", domain, anchor_distance(own, anchor))
        rows.append(Measure("frechet", domain, "", domain_distance(pool, own, anchors["otp"])))
    for domain in run.data.source_names:
        rows += weight_measures(run, domain, images)
    return rows


def by_class(measure: str, domain: str, values: Tensor) -> Iterator[Measure]:
    """Rows of a (K,) measure: the mean over the classes that have one, then each of them."""
    yield Measure(measure, domain, "", float(values.nanmean()))
    named = zip(CLASSES, values.tolist(), strict=True)
    yield from (Measure(measure, domain, name, value) for name, value in named if not math.isnan(value))


def weight_measures(run: LoadedRun, domain: str, images: int) -> Iterator[Measure]:
    """Rows of a source's weights under each corruption."""
    for kind in CORRUPTIONS:
        comparison = compare(run, domain, kind, images)
        for name, value in comparison.auc.items():
            yield Measure(f"auc/{kind}/{name}", domain, "", value)
        for group in ("clean", "corrupted"):
            weight = getattr(comparison, group).weight
            for quantile in QUANTILES:
                yield Measure(f"weight/{kind}/{group}/{quantile}", domain, "", float(weight.quantile(quantile)))


def write(measures: Iterable[Measure], path: Path) -> None:
    """Write measures as CSV with the columns ``measure, domain, class, value``."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["measure", "domain", "class", "value"])
        writer.writerows([*measure[:3], f"{measure.value:.6f}"] for measure in measures)


def read(path: Path) -> list[Measure]:
    """Read what :func:`write` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: write it with ppar_lightning.analysis.diagnosis.diagnose first")
    with path.open(newline="") as file:
        return [Measure(r["measure"], r["domain"], r["class"], float(r["value"])) for r in csv.DictReader(file)]
