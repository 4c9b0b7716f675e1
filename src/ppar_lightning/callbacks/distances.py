"""How far features lie from the prototypes, and the domains from the source, while a run trains."""

from typing import Any

import lightning as L
import torch

from ppar_lightning.analysis.distance import anchor_distance, domain_distance
from ppar_lightning.analysis.features import Features, clear_positions, embed
from ppar_lightning.data.loading import Batch
from ppar_lightning.method.objective import PPAR


class DomainDistances(L.Callback):
    """Log both sides of the bound in docs/method.md for every domain that a validation scores.

    ``val/{domain}/distance/otp`` and ``.../distance/vtp`` are E||z - A_y||, the mean over classes; ``.../frechet`` is
    the distance to the sources of the residuals z - OTP_y. The first batch of each domain is looked at, and where there
    are several ranks the first rank's, so that it costs little; :mod:`ppar_lightning.analysis.diagnosis` looks at more.
    """

    def __init__(self) -> None:
        """Start without features."""
        self._features: dict[str, Features] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last validation's features."""
        self._features = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Keep the features of a domain's first batch."""
        if batch_idx == 0 and getattr(pl_module, "objective", None) is not None and not trainer.sanity_checking:
            features = clear_positions(embed(pl_module, batch))  # type: ignore[arg-type]
            if len(features.label):  # a placeholder has none
                self._features[batch["domain"][0]] = features

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the distances."""
        sources = [self._features[name] for name in trainer.datamodule.source_names if name in self._features]  # type: ignore[attr-defined]
        if sources:
            measured = measure(self._features, sources, pl_module.objective)  # type: ignore[arg-type]
            pl_module.log_dict(measured, rank_zero_only=True)


def measure(features: dict[str, Features], sources: list[Features], objective: PPAR) -> dict[str, float]:
    """Measure each domain's features, against the sources put together."""
    pool = Features(*(torch.cat(part) for part in zip(*sources, strict=True)))
    anchors = {"otp": objective.prototypes.otp.cpu(), "vtp": objective.prototypes.bank.cpu()}
    measured = {}
    for domain, own in features.items():
        for name, anchor in anchors.items():
            measured[f"val/{domain}/distance/{name}"] = float(anchor_distance(own, anchor).nanmean())
        measured[f"val/{domain}/frechet"] = domain_distance(pool, own, anchors["otp"])
    return measured
