"""How far features lie from the prototypes, and the domains from the source, while a run trains."""

from collections.abc import Sequence
from typing import Any

import lightning as L

from ppar_lightning.analysis.distance import measure_domains
from ppar_lightning.analysis.features import Features, clear_positions, embed
from ppar_lightning.data.loading import Batch


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
        sources: Sequence[str] = trainer.datamodule.source_names  # type: ignore[attr-defined]
        if any(name in sources for name in self._features):
            measured = measure_domains(self._features, sources, pl_module.objective)  # type: ignore[arg-type]
            means = {
                f"val/{domain}/{name}": float(values.nanmean())
                for domain, measures in measured.items()
                for name, values in measures.items()
            }
            pl_module.log_dict(means, rank_zero_only=True)
