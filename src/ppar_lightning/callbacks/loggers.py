"""Loggers: curves as CSV in the run folder, and W&B, offline if there is no account."""

import os
from collections.abc import Iterable
from pathlib import Path
from secrets import token_hex
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from requests.utils import get_netrc_auth

from ppar_lightning.disk.files import write_whole
from ppar_lightning.runs.curves import read_rows
from ppar_lightning.runs.manifest import read_manifest

VARIABLES = {"id": "WANDB_RUN_ID", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE", "resume": "WANDB_RESUME"}
"""Argument of ``wandb.init`` -> the environment variable of the same meaning."""


class WholeWriter(ExperimentWriter):
    """Lightning's CSV writer, except that it replaces the file in one step instead of emptying it to add a column."""

    _torn = False  # whether the last row may be incomplete

    def save(self) -> None:
        """Add the columns that the new rows need to the file, then append the rows.

        After a save that failed, the file is first replaced by its complete rows, so that no two rows are joined.

        Raises:
            OSError: The file cannot be written; the earlier rows are unchanged.
        """
        columns = sorted({*self.metrics_keys, *(name for row in self.metrics for name in row)})
        path = Path(self.metrics_file_path)
        if (columns != self.metrics_keys or self._torn) and path.is_file():
            rows = pd.DataFrame(read_rows(path), columns=columns)
            write_whole(path, rows.to_csv(index=False, lineterminator="\r\n").encode())
            self.metrics_keys = columns
        self._torn = True
        super().save()
        self._torn = False


class CurvesLogger(CSVLogger):
    """Lightning's CSV logger with `WholeWriter`; it leaves no folder without a row.

    The file of a run is ``curves/{command}/version_{n}/metrics.csv``.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, which is created at its first use on rank 0."""
        if not isinstance(self._experiment, WholeWriter):
            self._experiment = WholeWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last rows; leave no folder if there are none, as after a run that failed before its first step."""
        super().finalize(status)
        folder = Path(self.log_dir)
        if self._experiment is not None and not (folder / "metrics.csv").exists():
            (folder / "hparams.yaml").unlink(missing_ok=True)
            os.removedirs(folder)


def run_loggers(
    named: Logger | Iterable[Logger] | bool | None, folder: str, command: str, resumed: bool
) -> list[Logger] | bool:
    """Return the loggers of a run: those that its config names, and curves in the run folder in any case.

    Args:
        named: The option ``trainer.logger``; False logs nothing.
        folder: The run folder.
        command: The subcommand.
        resumed: Whether the run continues the one of the folder.
    """
    if named is False:
        return False
    loggers = [*named] if isinstance(named, Iterable) else [named] if isinstance(named, Logger) else []
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            place(logger, Path(folder), command, resumed)
    return [*loggers, CurvesLogger(folder, name=f"curves/{command}")]


def place(logger: WandbLogger, folder: Path, command: str, resumed: bool) -> None:
    """Place what a command logs in W&B: a resumed training in its own run, a test in the group of the training.

    What the config or the environment says about id, group, job type and resuming wins.
    """
    known = (read_manifest(folder) or {}).get("wandb") or {"group": f"{folder.resolve().name}-{token_hex(3)}"}
    given = logger._wandb_init  # Lightning has no public name for the arguments of `wandb.init`
    own = {"job_type": command, "group": known["group"], "id": known.get("id") if resumed else None, "resume": "allow"}
    for name, value in own.items():
        if given.get(name) is None and VARIABLES[name] not in os.environ:
            given[name] = value
    if given.get("anonymous") is None:
        given.pop("anonymous", None)  # W&B warns of this option even when it is not set
    if logger.save_dir:
        Path(logger.save_dir).mkdir(parents=True, exist_ok=True)  # W&B warns of a folder that it has to make


def wandb_run(loggers: Iterable[Logger]) -> dict[str, str] | None:
    """Return the id and the group of the W&B run among the loggers, for the manifest; None if there is none."""
    runs = (each.experiment for each in loggers if isinstance(each, WandbLogger))
    return next(({"id": run.id, "group": run.group} for run in runs), None)


def stay_offline_without_account(logger: Any) -> None:
    """Set W&B to offline, and say so, if a logger's config names it and this machine has no account.

    An account has its key in the environment or where `wandb login` stores it. W&B itself is not asked, because it
    would cache its mode before that can be set.
    """
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    if "WandbLogger" not in str(logger) or {"WANDB_MODE", "WANDB_API_KEY"} & {*os.environ} or get_netrc_auth(host):
        return
    os.environ["WANDB_MODE"] = "offline"
    print("W&B: no account on this machine, logging offline; `wandb sync` uploads the run later")
