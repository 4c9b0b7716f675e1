"""What a run shows of itself: a progress bar on a terminal, else lines, and the numbers of its parameters."""

import sys
from collections.abc import Iterator
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelSummary, ProgressBar, RichProgressBar

from ppar_lightning.callbacks.parameter_counts import ParameterCounts
from ppar_lightning.callbacks.progress_lines import ProgressLines


class TerminalBar(RichProgressBar):
    """Lightning's progress bar without the number of the logger's folder or a last epoch that is not set."""

    def get_metrics(self, *given: Any) -> dict[str, Any]:
        """Return the metrics beside the bar."""
        return {name: value for name, value in super().get_metrics(*given).items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        return super()._get_train_description(current_epoch).replace("/-2", "")


def display(trainer: Namespace) -> Iterator[L.Callback]:
    """Yield the callbacks that show the progress and the parameters, unless the config turns them off or names others.

    Args:
        trainer: The trainer's options, with callbacks as objects.
    """
    own = trainer.callbacks if isinstance(trainer.callbacks, list) else [trainer.callbacks]
    if trainer.enable_progress_bar is not False and not any(isinstance(each, ProgressBar) for each in own):
        yield TerminalBar() if sys.stdout.isatty() else ProgressLines()
    if trainer.enable_model_summary is not False and not any(isinstance(each, ModelSummary) for each in own):
        yield ParameterCounts()
