"""Callbacks: scores by domain, the report, pictures and diagnostics, each with any logger or none."""

from lightning import Callback

from ppar_lightning.callbacks.artifact import ModelArtifact
from ppar_lightning.callbacks.diagnostics import TrainingDiagnostics
from ppar_lightning.callbacks.distances import DomainDistances
from ppar_lightning.callbacks.interruption import Interruption
from ppar_lightning.callbacks.last_checkpoint import LastCheckpoint
from ppar_lightning.callbacks.provenance import RunManifest
from ppar_lightning.callbacks.results import TestReport
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.callbacks.skipped import SkippedSamples


def default_callbacks() -> list[Callback]:
    """Callbacks of every run, in the order in which they act."""
    scores = DomainScores()
    measures = [TrainingDiagnostics(), DomainDistances()]
    return [
        scores,
        TestReport(scores),
        *measures,
        SkippedSamples(),
        RunManifest(),
        LastCheckpoint(),
        Interruption(),
        ModelArtifact(),
    ]
