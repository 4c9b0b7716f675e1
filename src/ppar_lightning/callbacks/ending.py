"""How a training ends: with its last planned step, by EarlyStopping, or before."""

import lightning as L
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from ppar_lightning.rates import planned_steps

NOT_STOPPED = EarlyStoppingReason.NOT_STOPPED


def early_stop(trainer: L.Trainer) -> str | None:
    """Return why an EarlyStopping that the config names has ended the training; None if none has."""
    stopped = (each for each in trainer.early_stopping_callbacks if each.stopping_reason != NOT_STOPPED)
    return next((each.stopping_reason_message or "" for each in stopped), None)


def forget_early_stop(trainer: L.Trainer) -> None:
    """Forget that an EarlyStopping ended an earlier session of a run."""
    for each in trainer.early_stopping_callbacks:
        each.stopping_reason = NOT_STOPPED


def is_short(trainer: L.Trainer) -> bool:
    """Return whether a training that ends now is not finished: ``max_time`` or a callback ended it too early.

    EarlyStopping is part of the plan, so a training that it ends is finished.
    """
    return trainer.global_step < planned_steps(trainer) and early_stop(trainer) is None
