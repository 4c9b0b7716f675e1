"""All measures of a run in one table, ``diagnostics.csv``."""

import pandas as pd
import torch
from torch import Tensor

from ppar_lightning.analysis.corruption import CORRUPTIONS
from ppar_lightning.analysis.distance import anchor_distance, domain_distance
from ppar_lightning.analysis.features import Features, collect
from ppar_lightning.analysis.loaded_run import LoadedRun
from ppar_lightning.analysis.weighing import compare


def diagnose(run: LoadedRun, images: int = 60, limit: int = 200) -> pd.DataFrame:
    """Measure both sides of the bound in docs/method.md, and the weights of corrupted source images.

    Args:
        run: From :func:`~ppar_lightning.analysis.loaded_run.load_run`.
        images: Number of images that are read from each domain.
        limit: Largest number of positions of each class and domain.

    Returns:
        ``measure``, ``domain``, ``class`` and ``value``; an empty domain or class stands for all of them. The measures
        are: ``distance/otp`` and ``distance/vtp``, by domain and class and as mean over classes; ``frechet``, the
        squared Fréchet distance of each domain to all sources together, under OTP; ``cosine/vtp_otp``, by class and as
        mean; and, for each source and corruption, ``auc/{kind}/{margin,weight}``. Measures without a value are missing.

    Raises:
        ValueError: The run was trained without PPAR.
    """
    otp, vtp = (anchors.cpu() for anchors in (run.objective.prototypes.otp, run.objective.prototypes.bank))
    features = {domain: collect(run, domain, images, limit) for domain in run.domains}
    pool = Features(*(torch.cat(field) for field in zip(*(features[name] for name in run.data.sources), strict=True)))
    found: dict[tuple[str, str], Tensor] = {("cosine/vtp_otp", ""): (vtp * otp).sum(dim=1)}
    areas = {}
    for domain, own in features.items():
        found["distance/otp", domain] = anchor_distance(own, otp)
        found["distance/vtp", domain] = anchor_distance(own, vtp)
        areas["frechet", domain] = domain_distance(pool, own, otp)
    for domain in run.data.sources:
        for kind in CORRUPTIONS:
            for name, auc in compare(run, domain, kind, images).auc.items():
                areas[f"auc/{kind}/{name}", domain] = auc
    rows = [(*key, "", value) for key, value in areas.items()]
    for key, values in found.items():
        named = zip(("", *run.data.classes), [float(values.nanmean()), *values.tolist()], strict=True)
        rows += [(*key, name, value) for name, value in named]
    return pd.DataFrame(rows, columns=["measure", "domain", "class", "value"]).dropna()
