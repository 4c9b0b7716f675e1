"""The callbacks of a run. They are registered here, and each works with any logger or without one."""

from collections.abc import Mapping

from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from ppar_lightning.callbacks.artifact import ModelArtifact
from ppar_lightning.callbacks.diagnostics import TrainingDiagnostics
from ppar_lightning.callbacks.finite_guard import FiniteGuard
from ppar_lightning.callbacks.hyperparameters import Hyperparameters
from ppar_lightning.callbacks.interruption import Interruption
from ppar_lightning.callbacks.last_checkpoint import LastCheckpoint
from ppar_lightning.callbacks.prediction_grid import PredictionGrid
from ppar_lightning.callbacks.prediction_writer import PredictionWriter
from ppar_lightning.callbacks.provenance import Provenance
from ppar_lightning.callbacks.quiet_ranks import QuietRanks
from ppar_lightning.callbacks.results import TestResults
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.selection import TargetSelectionGuard
from ppar_lightning.callbacks.skipped import SkippedSamples

CONFIGURED: Mapping[str, type[Callback]] = {
    "checkpoint": ModelCheckpoint,
    "target_selection": TargetSelectionGuard,
    "prediction_grid": PredictionGrid,
    "predictions": PredictionWriter,
}
"""Group of options in a config -> the callback that takes them."""


def run_callbacks(provenance: Provenance, resamples: int = 0) -> list[Callback]:
    """Return the callbacks of every run besides those of CONFIGURED, whatever the subcommand.

    A callback that reads from another one receives it as an argument. One order matters: the provenance, which
    completes the manifest, comes before ModelArtifact, whose card quotes it.

    Args:
        provenance: The record of the run's config and environment.
        resamples: See :class:`~ppar_lightning.callbacks.scores.DomainScores`.
    """
    scores = DomainScores(resamples)
    return [
        provenance,
        Hyperparameters(provenance.config),
        scores,
        TestResults(scores, provenance),
        TrainingDiagnostics(),
        FiniteGuard(),
        QuietRanks(),
        SkippedSamples(),
        LastCheckpoint(),
        Interruption(),
        ModelArtifact(),
    ]
