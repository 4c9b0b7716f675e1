"""The data module and the module of a run with their own types, which Lightning's hooks do not declare."""

from typing import cast

import lightning as L

from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.module import PPARModule


def data_of(trainer: L.Trainer) -> DomainDataModule:
    """Return the data module that the trainer runs on; the command line always gives one."""
    return cast(DomainDataModule, getattr(trainer, "datamodule", None))


def module_of(pl_module: L.LightningModule) -> PPARModule:
    """Return the trained module with its own type."""
    return cast(PPARModule, pl_module)
