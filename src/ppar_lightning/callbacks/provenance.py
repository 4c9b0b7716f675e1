"""Provenance of a run: its config and manifest in the run folder, and the refusal to write over another run."""

import json
from contextlib import suppress
from pathlib import Path
from time import monotonic as now
from types import MappingProxyType
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.trainer.states import TrainerFn

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.loggers import wandb_run
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import new_session, peak_memory
from ppar_lightning.disk.files import write_whole
from ppar_lightning.renamed import current_config
from ppar_lightning.runs.changed_options import Overrides, carried, changed_options
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.run_folder import CONFIG, read_config


class Provenance(L.Callback):
    """Keep ``config.yaml`` and ``manifest.json`` in the folder of a training run.

    ``config.yaml`` is the resolved config. If a run is resumed with other options, the new config replaces it, and the
    former one is kept as ``config.{n}.yaml``.

    ``manifest.json`` holds the seed, the protocols, ``data`` (a fingerprint of each split), ``target_selection`` (the
    metrics of unseen domains that select checkpoints), ``wandb`` (id and group of its W&B run), ``overrides`` (option
    -> its value in the config files and in the run), ``finished`` (whether training is finished), and ``sessions``: one
    for each call of ``ppar fit`` for this run. The time of a session (seconds, validation included) and its peak memory
    (GiB) are updated at the end and with each checkpoint, because a killed run loses what comes after its last
    checkpoint.

    A run claims the folder with its config before anything else, so that of two runs that start at once one is refused.
    If it fails before its first batch ends, it removes the config again, and the corrected command may use the folder.
    A run that is resumed changes neither file before that.

    Attributes:
        overrides: In a test or validation, one line for each option that differs from the training's.
    """

    def __init__(self, config: str, checkpoint: str | None = None, changes: Overrides = MappingProxyType({})) -> None:
        """Store what only the command line knows about the run.

        Args:
            config: The resolved config as YAML.
            checkpoint: Value of ``--ckpt_path``; None if the run does not continue another.
            changes: Options that the command line changes in the config files that it names.
        """
        self.config = config
        self.checkpoint = checkpoint
        self.changes = changes
        self.overrides: list[str] = []
        self._manifest: dict[str, Any] = {}  # empty on other ranks, and unless a training runs
        self._claimed = self._begun = False
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """In a training, claim the folder; in a test, compare the config with that of the training.

        Raises:
            FileExistsError: The folder holds another run, which this one does not continue.
        """
        path = Path(trainer.default_root_dir) / CONFIG
        if stage in ("validate", "test") and path.is_file():
            trained = current_config(read_config(path.parent))
            self.overrides = list(changed_options(trained, yaml.safe_load(self.config)))
        if stage == TrainerFn.FITTING.value:
            if trainer.is_global_zero:
                path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError), path.open("xb") as file:  # of several processes, one succeeds
                    self._claimed = True
                    file.write(self.config.encode())
            if not trainer.strategy.broadcast(self._claimed):
                refuse_another(path.parent, self.checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the manifest: the run, its earlier sessions, and this session as the last one.

        Raises:
            ValueError: The manifest of a resumed run is damaged. All ranks read it, so that none waits for another.
        """
        earlier = read_manifest(Path(trainer.default_root_dir)) if trainer.ckpt_path else None
        if not trainer.is_global_zero:
            return
        self._started = now()
        data = data_of(trainer)
        self._manifest = {
            "seed": module_of(pl_module).seed,
            "data": data.fingerprints(),
            "protocol": dict(data.protocol_titles),
            "target_selection": monitored_targets(trainer),
            "wandb": wandb_run(trainer.loggers) or (earlier or {}).get("wandb"),
            "overrides": carried((earlier or {}).get("overrides", {}), self.changes, yaml.safe_load(self.config)),
            "finished": False,
            "sessions": [*(earlier["sessions"] if earlier else []), new_session(trainer, self.config.encode())],
        }

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write config and manifest once the run has begun."""
        if not self._begun:
            self._save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        """Record the time up to a checkpoint."""
        self._save(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the whole time, and that training is finished."""
        self._save(trainer, finished=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the folder up if the run failed before its first batch ended."""
        if self._claimed and not self._begun:
            with suppress(OSError):  # the folder may hold other files
                (Path(trainer.default_root_dir) / CONFIG).unlink()
                Path(trainer.default_root_dir).rmdir()

    def _save(self, trainer: L.Trainer, finished: bool = False) -> None:
        if not self._manifest:
            return
        folder = Path(trainer.default_root_dir)
        if not self._begun:
            self._save_config(folder / CONFIG)
            self._begun = True
        memory = peak_memory(trainer.strategy.root_device)
        self._manifest["sessions"][-1] |= {"seconds": round(now() - self._started, 1), "peak_memory": memory}
        self._manifest["finished"] = finished
        write_whole(folder / "manifest.json", (json.dumps(self._manifest, indent=2) + "\n").encode())

    def _save_config(self, path: Path) -> None:
        if path.is_file() and yaml.safe_load(path.read_text()) != yaml.safe_load(self.config):
            path.replace(path.with_name(f"config.{len(self._manifest['sessions']) - 1}.yaml"))
        write_whole(path, self.config.encode())


def refuse_another(folder: Path, checkpoint: str | None) -> None:
    """Refuse to train in a folder that holds a run, unless the training continues that run.

    Args:
        folder: The run folder.
        checkpoint: Value of ``--ckpt_path``; None if it is not given.

    Raises:
        FileExistsError: The folder holds another run.
    """
    elsewhere = "or give another folder with --trainer.default_root_dir"
    if checkpoint is None:
        raise FileExistsError(f"{folder} already holds a run: continue it with --ckpt_path last, {elsewhere}")
    path = Path(checkpoint)
    if path.is_file() and not path.resolve().is_relative_to(folder.resolve()):
        remedy = f"give a checkpoint of this run, {elsewhere}"
        raise FileExistsError(f"{folder} already holds a run, and {path} belongs to another: {remedy}")
