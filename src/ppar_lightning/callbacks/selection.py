"""The guard against selecting checkpoints by unseen domains, on which the run is to be judged."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from ppar_lightning.callbacks.access import data_of


def monitored_targets(trainer: L.Trainer) -> list[str]:
    """List the metrics of unseen domains that a callback of a run monitors."""
    names = {"unseen", *data_of(trainer).unseen}
    monitors = (getattr(callback, "monitor", None) for callback in getattr(trainer, "callbacks", ()))
    return sorted({monitor for monitor in monitors if monitor and names & set(monitor.split("/")[1:2])})


class TargetSelectionGuard(L.Callback):
    """Refuse a run whose checkpoints would be selected on an unseen domain, unless an option allows it."""

    def __init__(self, allow: bool = False) -> None:
        """Set whether such a selection is allowed.

        Args:
            allow: Allow the selection, and state it in the results of the run.
        """
        self.allow = allow

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check what the callbacks monitor.

        Raises:
            ValueError: An unseen domain is monitored, and that is not allowed.
        """
        names = ", ".join(monitored_targets(trainer))
        if names and not self.allow:
            remedy = "monitor a source domain, or set --allow_target_selection true, which the report will state"
            raise ValueError(f"{names} is monitored, but unseen domains must not select the checkpoint: {remedy}")
        if names and stage == "fit":
            rank_zero_warn(f"checkpoints are selected on unseen domains, by {names}: scores on them are biased")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Record in the checkpoint which metrics of unseen domains select it, so that a test can state them."""
        checkpoint["target_selection"] = monitored_targets(trainer)
