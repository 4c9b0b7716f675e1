"""The scores of a test as tables in W&B."""

import math
from collections.abc import Iterable, Mapping, Sequence

from lightning.pytorch.loggers import Logger, WandbLogger

from ppar_lightning.callbacks.scores import DomainScore


def log_tables(loggers: Iterable[Logger], scores: Mapping[str, DomainScore], unseen: Sequence[str]) -> None:
    """Log ``test/domains``, a row a domain, and ``test/classes``, a row a domain and class, where W&B is in use.

    Args:
        loggers: Of the trainer; others than W&B's are left alone.
        scores: By domain, in [0, 1]; W&B gets None for NaN.
        unseen: Names of the unseen domains.
    """
    domains = [
        [
            name,
            "unseen" if name in unseen else "source",
            score.protocol,
            score.images,
            *map(_known, score.means.values()),
        ]
        for name, score in scores.items()
    ]
    classes = [
        [name, score.protocol, label, _known(value)]
        for name, score in scores.items()
        for label, value in score.iou.items()
    ]
    means = dict.fromkeys(mean for score in scores.values() for mean in score.means)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table("test/domains", ["domain", "role", "protocol", "images", *means], domains)
            logger.log_table("test/classes", ["domain", "protocol", "class", "iou"], classes)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
