"""Loggers: curves as CSV in the run folder by default, W&B offline where there is no account."""

import csv
import io
import logging
import os
import warnings
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ppar_lightning.disk.files import append_whole, write_whole
from ppar_lightning.runs.curves import read_rows


class WholeWriter(ExperimentWriter):
    """Lightning's writer, but rows are written whole or not at all, and new columns never empty the file."""

    def __init__(self, log_dir: str) -> None:
        """Start with nothing written."""
        super().__init__(log_dir)
        self._header: list[str] = []

    def save(self) -> None:
        """Append what was logged; at first, or with a new column, write the file anew.

        Raises:
            OSError: It cannot be written; it is as it was, and what was logged is kept for another try.
        """
        if not self.metrics:
            return
        path, table = Path(self.metrics_file_path), io.StringIO(newline="")
        self._record_new_keys()
        writer = csv.DictWriter(table, self.metrics_keys)
        if self.metrics_keys == self._header and path.is_file():
            writer.writerows(self.metrics)
            append_whole(path, table.getvalue().encode())
        else:
            writer.writeheader()
            writer.writerows([*read_rows(path), *self.metrics])
            write_whole(path, table.getvalue().encode())
            self._header = list(self.metrics_keys)
        self.metrics = []


class CurvesLogger(CSVLogger):
    """Lightning's logger with that writer: a run that is killed loses no curve that it had written."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, made at its first use on rank 0."""
        if not isinstance(self._experiment, WholeWriter):
            self._experiment = WholeWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left; a disk that is full takes no other error's place."""
        try:
            super().finalize(status)
        except OSError as error:
            if status == "success":
                raise
            rank_zero_warn(f"the last of the curves are not written: {error}")


def default_logger(folder: str, command: str) -> CSVLogger:
    """Return the logger of a run that names none: ``{folder}/curves/{command}/version_{n}/metrics.csv``."""
    return CurvesLogger(folder, name=f"curves/{command}")


def stay_offline_without_account(logger: Any) -> None:
    """Set W&B to offline, and say so, if a logger's config names it and this machine has no account."""
    if "WandbLogger" in str(logger) and "WANDB_MODE" not in os.environ and not has_account():
        os.environ["WANDB_MODE"] = "offline"
        print("W&B: no account on this machine, logging offline; `wandb sync` uploads the run later")


def has_account() -> bool:
    """Look for a key where `wandb login` leaves it; W&B itself would cache the mode before it can be set."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return "WANDB_API_KEY" in os.environ or netrc().authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


def quieten() -> None:
    """Drop messages that say nothing of the run, an advertisement and warnings about what is meant to be so.

    Warnings that are left come in one line, without the place in the code.
    """
    warnings.formatwarning = lambda message, category, *_, **__: f"{category.__name__}: {message}\n"
    trainer = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    trainer.addFilter(lambda record: "litlogger" not in record.getMessage())
    for message in ("Found .* in eval mode at the start", "`isinstance.treespec", "The number of training batches"):
        warnings.filterwarnings("ignore", f".*{message}")  # frozen stages are in eval mode
