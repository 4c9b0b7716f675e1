"""Where a run comes from: its config and its manifest in the run folder, and the refusal to write over another run."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic as now
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.trainer.states import TrainerFn

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import Session, new_session, peak_memory
from ppar_lightning.disk.files import write_whole
from ppar_lightning.runs.manifest import read_manifest

SCORED = ("seed_everything", "model", "data")
"""Parts of a config that a score depends on."""

IRRELEVANT = ("data.workers", "data.predict_dir", "model.for_training")
"""Options in these parts that no score depends on."""


class Provenance(L.Callback):
    """Keep ``config.yaml`` and ``manifest.json`` in the folder of a training run.

    ``config.yaml`` is the resolved config. A run that is resumed with other options has the new config there, and the
    one before as ``config.{n}.yaml``.

    ``manifest.json`` holds the seed, the protocols, ``data`` (a fingerprint of each split), ``target_selection`` (the
    metrics of unseen domains that select checkpoints), ``finished`` (whether training is), and ``sessions``: one for
    each call of ``ppar fit`` that the run took. The time of a session (seconds, validation included) and its peak
    memory (GiB) are updated with each checkpoint, because what comes after the last one is lost, and at the end.

    A run that fails before its first step leaves the folder as it was, so that the corrected command may use it.

    Attributes:
        overrides: In a test or validation, one line for each option that differs from the training's.
    """

    def __init__(self, config: str, folder: Path, checkpoint: str | None = None) -> None:
        """Describe the run, before a logger has made its folder.

        Args:
            config: The resolved config as YAML.
            folder: The run folder.
            checkpoint: Value of ``--ckpt_path``; None if the run does not continue another.
        """
        self.config = config
        self.checkpoint = checkpoint
        self.overrides: list[str] = []
        self.sessions: list[Session] = []
        self._about: dict[str, Any] = {}
        self._there = {Path(root, name) for root, _, files in os.walk(folder.absolute()) for name in ("", *files)}
        self._begun = False
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the config before the first step of a training; compare it with the training's in a test.

        Raises:
            FileExistsError: The folder holds another run, which this one does not continue.
        """
        path = Path(trainer.default_root_dir) / "config.yaml"
        if stage in ("validate", "test") and path.is_file():
            self.overrides = list(changed_options(path.read_text(), self.config))
        if stage != TrainerFn.FITTING.value or getattr(trainer, "fast_dev_run", False):
            return
        if trainer.strategy.broadcast(path.exists()):
            refuse_another(path.parent, self.checkpoint)
        if trainer.is_global_zero:
            save_config(path, self.config)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what is known before the first step, after the sessions that this one continues."""
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        self._started = now()
        data = data_of(trainer)
        earlier = read_manifest(Path(trainer.default_root_dir)) if trainer.ckpt_path else None
        self.sessions = [*(earlier or {"sessions": []})["sessions"], new_session(trainer)]
        self._about = {
            "seed": module_of(pl_module).seed,
            "data": data.fingerprints(),
            "protocol": dict(data.protocol_titles),
            "target_selection": monitored_targets(trainer),
        }
        self._save_manifest(trainer)

    def on_train_batch_end(self, *_: Any) -> None:
        """Keep what this start has written: the run has begun."""
        self._begun = True

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        """Count the time up to a checkpoint."""
        self._save_manifest(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count all of the time; training is finished."""
        self._save_manifest(trainer, finished=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove what this start has made, and nothing else, if it failed before the end of its first batch.

        A run that was told to stop raises no Exception; it keeps its config, to be started again.
        """
        failed = isinstance(exception, Exception) and trainer.state.fn == TrainerFn.FITTING
        if self._begun or not failed or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir).absolute()
        curves = [Path(logger.log_dir).absolute() for logger in trainer.loggers if logger.log_dir]
        for place in (folder / "config.yaml", folder / "manifest.json", *curves):
            if place not in self._there and folder in place.parents:
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
                remove_empty(place.parent, folder)

    def _save_manifest(self, trainer: L.Trainer, finished: bool = False) -> None:
        if not self.sessions:  # on other ranks, and outside of a training
            return
        device = trainer.strategy.root_device
        self.sessions[-1] |= {"seconds": round(now() - self._started, 1), "peak_memory": peak_memory(device)}
        manifest = {**self._about, "finished": finished, "sessions": self.sessions}
        write_whole(Path(trainer.default_root_dir) / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())


def refuse_another(folder: Path, checkpoint: str | None) -> None:
    """Refuse to train in a folder that holds a run, unless the training continues that run.

    Args:
        folder: The run folder.
        checkpoint: Value of ``--ckpt_path``, None without it.

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


def save_config(path: Path, text: str) -> None:
    """Write a config; keep an earlier one that says something else as ``config.{n}.yaml``, n its last session."""
    if path.is_file() and yaml.safe_load(path.read_text()) != yaml.safe_load(text):
        number = len((read_manifest(path.parent) or {"sessions": []})["sessions"])
        path.replace(path.with_name(f"config.{number}.yaml"))
    if not path.is_file():
        write_whole(path, text.encode())


def changed_options(before: str, now: str) -> Iterator[str]:
    """Compare the config of a training with the present one: one line for each option that a score depends on."""
    old, new = (flat({part: yaml.safe_load(text).get(part) for part in SCORED}) for text in (before, now))
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name) and name not in IRRELEVANT:
            yield f"{name}: {old.get(name)} in training, {new.get(name)} now"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Map the dotted path of its keys to each value of nested mappings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def remove_empty(place: Path, folder: Path) -> None:
    """Remove a folder and those above it, up to and including ``folder``, as long as they are empty."""
    while place.is_relative_to(folder) and place.is_dir() and not any(place.iterdir()):
        place.rmdir()
        place = place.parent
