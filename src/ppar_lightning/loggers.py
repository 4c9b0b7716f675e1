"""Loggers: curves as CSV in the run folder by default, W&B offline where there is no account."""

import logging
import os
import warnings
from typing import Any

import wandb
from lightning.pytorch.loggers import CSVLogger


def default_logger(folder: str, command: str) -> CSVLogger:
    """Return the logger of a run that names none: ``{folder}/curves/{command}/version_{n}/metrics.csv``."""
    return CSVLogger(folder, name=f"curves/{command}")


def stay_offline_without_account(logger: Any) -> None:
    """Set W&B to offline, and say so, if a logger's config names it and this machine has no account."""
    if "WandbLogger" in str(logger) and "WANDB_MODE" not in os.environ and not wandb.api.api_key:
        os.environ["WANDB_MODE"] = "offline"
        print("W&B: no account on this machine, logging offline; `wandb sync` uploads the run later")


def quieten() -> None:
    """Drop messages that say nothing of the run: an advertisement, and warnings about what is meant to be so."""
    trainer = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    trainer.addFilter(lambda record: "litlogger" not in record.getMessage())
    for message in ("Found .* in eval mode at the start", "`isinstance.treespec", "The number of training batches"):
        warnings.filterwarnings("ignore", f".*{message}")  # frozen stages are in eval mode
