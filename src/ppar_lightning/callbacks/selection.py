"""The guard against choosing checkpoints by the domains that the run is to be judged on."""

from collections.abc import Iterable, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn


def monitored_targets(trainer: L.Trainer) -> list[str]:
    """List the metrics of unseen domains that a callback of a run monitors."""
    return targets_among(trainer.callbacks, trainer.datamodule.unseen_names)  # type: ignore[attr-defined]


def targets_among(callbacks: Iterable[object], unseen: Iterable[str]) -> list[str]:
    """List the metrics of unseen domains among what callbacks monitor.

    Args:
        callbacks: Callbacks, such as ModelCheckpoint and EarlyStopping, or their options.
        unseen: Names of the unseen domains.
    """
    names = {"unseen", *unseen}
    monitors = (getattr(callback, "monitor", None) for callback in callbacks)
    return sorted({monitor for monitor in monitors if monitor and names & set(monitor.split("/")[1:2])})


def refuse_targets(targets: Sequence[str]) -> None:
    """Refuse to select checkpoints by metrics of unseen domains.

    Raises:
        ValueError: There are such metrics.
    """
    if targets:
        raise ValueError(
            f"{', '.join(targets)} is monitored, but unseen domains must not choose the checkpoint: monitor a source "
            "domain, or set --allow_target_selection true, which the report will say"
        )


class TargetSelectionGuard(L.Callback):
    """Refuse a run whose checkpoints would be selected on an unseen domain, unless that is allowed by name."""

    def __init__(self, allow: bool = False) -> None:
        """Set whether it is allowed; the report of the run says so then."""
        self.allow = allow

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Look at what the callbacks monitor.

        Raises:
            ValueError: An unseen domain is monitored.
        """
        targets = monitored_targets(trainer)
        if not self.allow:
            refuse_targets(targets)
        if targets and stage == "fit":
            rank_zero_warn(f"checkpoints are selected on unseen domains, by {', '.join(targets)}: no measure of them")
            for logger in trainer.loggers:
                logger.log_hyperparams({"target_selection": targets})

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell whoever loads the checkpoint."""
        checkpoint["target_selection"] = monitored_targets(trainer)
