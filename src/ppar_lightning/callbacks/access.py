"""What callbacks take from a run, with its type: the data module, the module, and whether this step is logged."""

from typing import cast

import lightning as L

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.module import PPARModule


def data_of(trainer: L.Trainer) -> DomainDataModule:
    """Return the data module that the trainer runs on. Lightning's Trainer does not declare this attribute."""
    return cast(DomainDataModule, getattr(trainer, "datamodule", None))


def module_of(pl_module: L.LightningModule) -> PPARModule:
    """Return the module under its own type. Lightning's hooks declare a plain LightningModule."""
    return cast(PPARModule, pl_module)


def is_logging_step(trainer: L.Trainer) -> bool:
    """Tell, before the optimiser steps, whether Lightning hands what is logged in this step to the loggers.

    Lightning counts the optimiser steps of the whole training, so the answer does not depend on the epoch's length.
    """
    every: int = getattr(trainer, "log_every_n_steps", 0)
    return every > 0 and (trainer.global_step + 1) % every == 0
