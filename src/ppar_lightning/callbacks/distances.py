"""How far features lie from the prototypes, and the domains from the sources, while a run trains."""

from typing import Any

import lightning as L

from ppar_lightning.analysis.distance import measure_domains
from ppar_lightning.analysis.features import Features, clear_positions, embed
from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.data.loading import Batch


class DomainDistances(L.Callback):
    """Log both sides of the bound in docs/method.md for every domain that a validation scores.

    ``val/{domain}/distance/otp`` and ``.../distance/vtp`` are E||z - A_y||, the mean over classes; ``.../frechet`` is
    the distance to the sources of the residuals z - OTP_y. Only the first batch of each domain is read, on the first
    rank, which costs little; :mod:`ppar_lightning.analysis.diagnosis` reads more.
    """

    def __init__(self) -> None:
        """Start without features."""
        self._features: dict[str, Features] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the features of the last validation."""
        self._features = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Keep the features of a domain's first batch."""
        module = module_of(pl_module)
        if batch_idx == 0 and module.objective is not None and not trainer.sanity_checking:
            features = clear_positions(embed(module, batch))
            if len(features.label):  # a placeholder has none
                self._features[batch["domain"][0]] = features

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the distances."""
        objective, sources = module_of(pl_module).objective, data_of(trainer).source_names
        if objective is None or not set(sources) & set(self._features):
            return
        means = {
            f"val/{domain}/{name}": float(values.nanmean())
            for domain, measures in measure_domains(self._features, sources, objective).items()
            for name, values in measures.items()
        }
        pl_module.log_dict(means, rank_zero_only=True)
