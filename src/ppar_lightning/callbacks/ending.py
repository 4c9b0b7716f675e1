"""How a training ends: with its last planned step, by EarlyStopping, or before."""

import lightning as L
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from ppar_lightning.distributed import gather
from ppar_lightning.rates import planned_steps

NOT_STOPPED = EarlyStoppingReason.NOT_STOPPED


def early_stop(trainer: L.Trainer) -> str | None:
    """Return why an EarlyStopping has ended the training on any rank; None if none has. Every rank must call it."""
    stopped = [each for each in trainer.early_stopping_callbacks if each.stopping_reason != NOT_STOPPED]
    reasons = gather([each.stopping_reason_message or "" for each in stopped])
    return next((reason for rank in reasons for reason in rank), None)


def forget_early_stop(trainer: L.Trainer) -> None:
    """Forget that an EarlyStopping ended an earlier session of a run."""
    for each in trainer.early_stopping_callbacks:
        each.stopping_reason = NOT_STOPPED


def is_short(trainer: L.Trainer) -> bool:
    """Return whether a training that ends now is not finished: ``max_time`` or a callback ended it too early.

    EarlyStopping is part of the plan, so a training that it ends is finished.
    """
    loop = trainer.fit_loop  # epochs of a larger batch had fewer steps; Lightning also counts one that was stopped
    epochs = trainer.current_epoch if loop.epoch_loop.batch_progress.is_last_batch else 0
    if trainer.global_step >= planned_steps(trainer) or epochs >= (trainer.max_epochs or -1) > 0:
        return False
    return early_stop(trainer) is None
