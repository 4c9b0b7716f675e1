"""Where a run comes from: its config and its manifest in the run folder, and the refusal to write over another run."""

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

    ``config.yaml`` is the resolved config. A run that is resumed with other options has the new config there, and the
    one before as ``config.{n}.yaml``.

    ``manifest.json`` holds the seed, the protocols, ``data`` (a fingerprint of each split), ``target_selection`` (the
    metrics of unseen domains that select checkpoints), ``finished`` (whether training is), and ``sessions``: one for
    each call of ``ppar fit`` that the run took. The time of a session (seconds, validation included) and its peak
    memory (GiB) are updated with each checkpoint, because what comes after the last one is lost, and at the end.

    Both files are first written after the first batch: until then the corrected command may use the folder.

    Attributes:
        overrides: In a test or validation, one line for each option that differs from the training's.
    """

    def __init__(self, config: str, checkpoint: str | None = None) -> None:
        """Take what the command line knows of the run.

        Args:
            config: The resolved config as YAML.
            checkpoint: Value of ``--ckpt_path``; None if the run does not continue another.
        """
        self.config = config
        self.checkpoint = checkpoint
        self.overrides: list[str] = []
        self._manifest: dict[str, Any] = {}  # empty on other ranks and outside of a training
        self._begun = False
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse the folder of another run in a training; compare the config with the training's in a test.

        Raises:
            FileExistsError: The folder holds another run, which this one does not continue.
        """
        path = Path(trainer.default_root_dir) / CONFIG
        if stage in ("validate", "test") and path.is_file():
            self.overrides = list(changed_options(path.read_text(), self.config))
        if stage == TrainerFn.FITTING.value and trainer.strategy.broadcast(path.exists()):
            refuse_another(path.parent, self.checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Describe the run and its sessions, of which this one is the last."""
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
        """Count the time up to a checkpoint."""
        self._save(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count all of the time; training is finished."""
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
