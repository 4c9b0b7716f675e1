"""The run folder: its resolved config, and the refusal to write over another run."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from ppar_lightning.disk.files import write_whole
from ppar_lightning.runs.manifest import read_manifest

SCORED = ("seed_everything", "model", "data")
"""Parts of a config that a score depends on."""

IRRELEVANT = ("data.workers", "data.predict_dir", "model.for_training")
"""Options in them that no score depends on."""


class RunRecord(SaveConfigCallback):
    """Save the resolved config of a training run as ``config.yaml`` in the run folder, ``trainer.default_root_dir``.

    A run that is continued with other options has the new config there, and the one before as ``config.{n}.yaml``. A
    run that fails before its first step leaves the folder as it was, so that the corrected command may use it.

    Attributes:
        overrides: In a test, the options that are not what the run was trained with, a line each.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin with no overrides."""
        super().__init__(*args, **kwargs)
        self.overrides: list[str] = []
        self._written = self._begun = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the config before the first step, or compare it with the one that was written.

        Raises:
            FileExistsError: If the folder holds another run and this one does not continue it.
        """
        folder = Path(trainer.default_root_dir)
        path = folder / self.config_filename
        if stage in ("validate", "test"):
            self.overrides = list(changed(path, self._resolved())) if path.is_file() else []
        if stage != "fit":
            return
        occupied = trainer.strategy.broadcast(path.exists())
        if occupied:
            refuse_another(folder, self.config.get("ckpt_path"))
        self._written = not occupied
        if trainer.is_global_zero:
            save(path, self._resolved())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note that the run has begun."""
        self._begun = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take back what a training wrote that could not begin; one that was told to stop may still go on."""
        if self._begun or not isinstance(exception, Exception) or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        for name in (self.config_filename, "manifest.json") if self._written else ():
            (folder / name).unlink(missing_ok=True)
        for logger in trainer.loggers if trainer.state.fn == TrainerFn.FITTING else ():
            place = Path(logger.log_dir or folder)
            if place != folder and place.is_relative_to(folder):
                shutil.rmtree(place, ignore_errors=True)
                remove_empty(place.parent, folder)
        remove_empty(folder, folder)

    def _resolved(self) -> str:
        """The config as YAML; which checkpoint it goes on from is no part of it."""
        config = self.config.clone()
        if "ckpt_path" in config:
            config.ckpt_path = None
        return self.parser.dump(config, skip_none=False)


def refuse_another(folder: Path, checkpoint: str | None) -> None:
    """Let a folder that holds a run be written to by nothing but the run itself.

    Args:
        folder: Of the run.
        checkpoint: What ``--ckpt_path`` says, None without it.

    Raises:
        FileExistsError: It is another run.
    """
    elsewhere = "or give another folder with --trainer.default_root_dir"
    if checkpoint is None:
        raise FileExistsError(f"{folder} already holds a run: continue it with --ckpt_path last, {elsewhere}")
    path = Path(checkpoint)
    if path.is_file() and not path.resolve().is_relative_to(folder.resolve()):
        raise FileExistsError(
            f"{folder} already holds a run, and {path} is of another: continue it with its own, {elsewhere}"
        )


def save(path: Path, text: str) -> None:
    """Write a config; one that says something else is kept beside it."""
    if path.is_file() and yaml.safe_load(path.read_text()) != yaml.safe_load(text):
        number = len((read_manifest(path.parent) or {"sessions": []})["sessions"])
        path.replace(path.with_name(f"config.{number}.yaml"))
    if not path.is_file():
        write_whole(path, text.encode())


def changed(path: Path, text: str) -> Iterator[str]:
    """Compare a saved config with the present one, a line for each option that a score depends on."""
    before, now = (
        flat({part: config.get(part) for part in SCORED}) for config in map(yaml.safe_load, (path.read_text(), text))
    )
    for name in [*before, *(name for name in now if name not in before)]:
        if before.get(name) != now.get(name) and name not in IRRELEVANT:
            yield f"{name}: {before.get(name)} in training, {now.get(name)} now"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name each value by the path of its keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def remove_empty(place: Path, folder: Path) -> None:
    """Remove a folder and those above it, up to another one, as long as they hold nothing."""
    while place.is_relative_to(folder) and place.is_dir() and not any(place.iterdir()):
        place.rmdir()
        place = place.parent
