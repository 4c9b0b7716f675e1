"""All measures of a run in one table, ``diagnostics.csv``.

write(diagnose(run), run.folder / "diagnostics.csv")
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ppar_lightning.analysis.corruption import CORRUPTIONS
from ppar_lightning.analysis.distance import measure_domains
from ppar_lightning.analysis.features import collect
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.analysis.weighing import compare
from ppar_lightning.images.classes import CLASSES

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FILE = "diagnostics.csv"


class Measure(NamedTuple):
    """A value of ``measure`` for a domain and a class; an empty ``domain`` or ``label`` stands for all of them."""

    measure: str
    domain: str
    label: str
    value: float


def diagnose(run: LoadedRun, images: int = 60, limit: int = 200) -> list[Measure]:
    """Measure a run.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        images: Number of images that are read from each domain.
        limit: Number of positions of each class and domain.

    Returns:
        ``distance/otp``, ``distance/vtp`` by domain and class and as mean over classes; ``frechet`` of each domain to
        the sources together, under OTP; ``cosine/vtp_otp`` by class and as mean; and of each source, for each
        corruption, ``auc/{kind}/{margin,weight}`` and the quantiles ``weight/{kind}/{clean,corrupted}/{quantile}``.

    Raises:
        ValueError: The run was trained without PPAR.
    """
    memory = run.objective.prototypes
    features = {domain: collect(run, domain, images, limit) for domain in run.domains}
    rows = list(by_class("cosine/vtp_otp", "", (memory.bank * memory.otp).sum(dim=1)))
    for domain, measures in measure_domains(features, run.data.sources, run.objective).items():
        for name, values in measures.items():
            rows += by_class(name, domain, values)
    for domain in run.data.sources:
        rows += weight_measures(run, domain, images)
    return rows


def by_class(measure: str, domain: str, values: Tensor) -> Iterator[Measure]:
    """Rows of a (K,) measure: the mean over the classes that have a value, then each class; of a scalar, one row."""
    yield Measure(measure, domain, "", float(values.nanmean()))
    if values.ndim:
        named = zip(CLASSES, values.tolist(), strict=True)
        yield from (Measure(measure, domain, name, value) for name, value in named if value == value)  # not NaN


def weight_measures(run: LoadedRun, domain: str, images: int) -> Iterator[Measure]:
    """Rows of the weights of a source under each corruption."""
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
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `ppar report --diagnostics {path.parent}` first")
    with path.open(newline="") as file:
        return [Measure(r["measure"], r["domain"], r["class"], float(r["value"])) for r in csv.DictReader(file)]
