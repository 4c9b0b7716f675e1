"""All measures of a run in one table, ``diagnostics.csv``."""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from ppar_lightning.analysis.corruption import CORRUPTIONS
from ppar_lightning.analysis.distance import measure_domains
from ppar_lightning.analysis.features import collect
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.analysis.weighing import compare

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Row = tuple[str, str, str, float]
"""Measure, domain, class and value; an empty domain or class stands for all of them."""


def diagnose(run: LoadedRun, images: int = 60, limit: int = 200) -> pd.DataFrame:
    """Measure a run.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        images: Number of images that are read from each domain.
        limit: Largest number of positions of each class and domain.

    Returns:
        ``measure``, ``domain``, ``class`` and ``value``; an empty domain or class stands for all of them. The measures
        are: ``distance/otp`` and ``distance/vtp``, by domain and class and as mean over classes; ``frechet``, the
        squared Fréchet distance of each domain to all sources together, under OTP; ``cosine/vtp_otp``, by class and as
        mean; and, for each source and corruption, ``auc/{kind}/{margin,weight}`` and the quantiles
        ``weight/{kind}/{clean,corrupted}/{quantile}``.

    Raises:
        ValueError: The run was trained without PPAR.
    """
    memory = run.objective.prototypes
    features = {domain: collect(run, domain, images, limit) for domain in run.domains}
    rows = list(by_class(run, "cosine/vtp_otp", "", (memory.bank * memory.otp).sum(dim=1)))
    for domain, measures in measure_domains(features, run.data.sources, run.objective).items():
        for name, values in measures.items():
            rows += by_class(run, name, domain, values)
    for domain in run.data.sources:
        rows += weight_measures(run, domain, images)
    return pd.DataFrame(rows, columns=["measure", "domain", "class", "value"])


def by_class(run: LoadedRun, measure: str, domain: str, values: Tensor) -> Iterator[Row]:
    """Yield the rows of a (K,) measure, first its mean over the classes that have a value; of a scalar, one row."""
    yield measure, domain, "", float(values.nanmean())
    if values.ndim:
        named = zip(run.data.classes, values.tolist(), strict=True)
        yield from ((measure, domain, name, value) for name, value in named if value == value)  # not NaN


def weight_measures(run: LoadedRun, domain: str, images: int) -> Iterator[Row]:
    """Yield the rows of the weights of a source under each corruption; NaN where no position was counted."""
    for kind in CORRUPTIONS:
        comparison = compare(run, domain, kind, images)
        for name, value in comparison.auc.items():
            yield f"auc/{kind}/{name}", domain, "", value
        for group, positions in comparison._asdict().items():
            weight = positions.weight if len(positions.weight) else torch.tensor([torch.nan])
            for quantile in QUANTILES:
                yield f"weight/{kind}/{group}/{quantile}", domain, "", float(weight.quantile(quantile))
