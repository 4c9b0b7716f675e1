"""Provenance of a run: its config and manifest in the run folder, and the refusal to write over another run."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic as now
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.trainer.states import TrainerFn

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import new_session, peak_memory
from ppar_lightning.disk.files import write_whole
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.run_folder import CONFIG

SCORED = ("seed_everything", "model", "data")
"""Parts of a config that a score depends on."""

IRRELEVANT = ("data.workers", "data.predict_dir", "model.for_training")
"""Options in these parts that no score depends on."""


class Provenance(L.Callback):
    """Keep ``config.yaml`` and ``manifest.json`` in the folder of a training run.

    ``config.yaml`` is the resolved config. If a run is resumed with other options, the new config replaces it, and the
    former one is kept as ``config.{n}.yaml``.

    ``manifest.json`` holds the seed, the protocols, ``data`` (a fingerprint of each split), ``target_selection`` (the
    metrics of unseen domains that select checkpoints), ``finished`` (whether training is finished), and ``sessions``:
    one for each call of ``ppar fit`` for this run. The time of a session (seconds, validation included) and its peak
    memory (GiB) are updated at the end and with each checkpoint, because a killed run loses what comes after its last
    checkpoint.

    Both files are first written after the first batch: until then the corrected command may use the folder.

    Attributes:
        overrides: In a test or validation, one line for each option that differs from the training's.
    """

    def __init__(self, config: str, checkpoint: str | None = None) -> None:
        """Store what only the command line knows about the run.

        Args:
            config: The resolved config as YAML.
            checkpoint: Value of ``--ckpt_path``; None if the run does not continue another.
        """
        self.config = config
        self.checkpoint = checkpoint
        self.overrides: list[str] = []
        self._manifest: dict[str, Any] = {}  # empty on other ranks, and unless a training runs
        self._begun = False
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """In a training, refuse the folder of another run; in a test, compare the config with that of the training.

        Raises:
            FileExistsError: The folder holds another run, which this one does not continue.
        """
        path = Path(trainer.default_root_dir) / CONFIG
        if stage in ("validate", "test") and path.is_file():
            self.overrides = list(changed_options(path.read_text(), self.config))
        if stage == TrainerFn.FITTING.value and trainer.strategy.broadcast(path.exists()):
            refuse_another(path.parent, self.checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the manifest: the run, its earlier sessions, and this session as the last one."""
        if not trainer.is_global_zero:
            return
        self._started = now()
        data = data_of(trainer)
        earlier = read_manifest(Path(trainer.default_root_dir)) if trainer.ckpt_path else None
        session = new_session(trainer) | {"config": hashlib.sha256(self.config.encode()).hexdigest()[:16]}
        self._manifest = {
            "seed": module_of(pl_module).seed,
            "data": data.fingerprints(),
            "protocol": dict(data.protocol_titles),
            "target_selection": monitored_targets(trainer),
            "finished": False,
            "sessions": [*(earlier["sessions"] if earlier else []), session],
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
        raise FileExistsError(
            f"{folder} already holds a run, and {path} belongs to another: give a checkpoint of this run, {elsewhere}"
        )


def changed_options(before: str, now: str) -> Iterator[str]:
    """Compare the config of a training with the present one: one line for each option that a score depends on."""
    old, new = (flat({part: yaml.safe_load(text).get(part) for part in SCORED}) for text in (before, now))
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name) and name not in IRRELEVANT:
            yield f"{name}: {old.get(name)} in training, {new.get(name)} now"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: the dotted path of its keys -> each value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found
