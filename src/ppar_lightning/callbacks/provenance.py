"""Provenance of a run: its config and manifest in the run folder, and the refusal to write over another run."""

import json
import math
import shlex
from contextlib import suppress
from pathlib import Path
from time import monotonic as now
from types import MappingProxyType
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.callbacks.ending import early_stop, forget_early_stop, is_short
from ppar_lightning.callbacks.interruption import continuation
from ppar_lightning.callbacks.loggers import wandb_run
from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.callbacks.session import batch_change, new_session, origin, peak_memory
from ppar_lightning.disk.files import write_whole
from ppar_lightning.method.clip import FrozenImageTower
from ppar_lightning.rates import planned_steps
from ppar_lightning.runs.changed_options import Overrides, carried, changed_options
from ppar_lightning.runs.manifest import read_manifest
from ppar_lightning.runs.renamed import current_config
from ppar_lightning.runs.run_folder import CONFIG, read_config


class Provenance(L.Callback):
    """Keep ``config.yaml`` and ``manifest.json`` in the folder of a training run.

    ``config.yaml`` is the resolved config. If a run is resumed with other options, the new config replaces it, and the
    former one is kept as ``config.{n}.yaml``.

    ``manifest.json`` holds the seed, the protocols, ``data`` (a fingerprint of each split), ``target_selection`` (the
    metrics of unseen domains that select checkpoints), ``wandb`` (id and group of its W&B run),
    ``overrides`` (option -> its value in the config files and in the run), ``finished`` (whether training is finished),
    ``steps`` (done and planned), ``early_stop`` (why an EarlyStopping ended it, if one did), ``origin`` (the checkpoint
    of another run that it continued, if any), ``weights`` (those that it started from, and what was taken of them), and
    ``sessions``: one for each call of ``ppar fit`` for this run. The time of a session (seconds, validation included),
    its peak memory (GiB) and ``clip_tower`` (how CLIP's image tower ran: ``graph``, ``eager`` or null) are updated at
    the end and with each checkpoint, because a killed run loses what comes after its last checkpoint.

    A run claims the folder with its config before anything else, so that of two runs that start at once one is refused.
    If it fails before its first batch ends, it removes the config again, and the corrected command may use the folder.
    A run that is resumed changes neither file before that.

    Attributes:
        weights: Record of the weights that a new training starts from, set before it begins.
        overrides: In a test or validation, one line for each option that differs from the training's.
        model: ``name`` and ``revision`` of what others have made, if that is scored.
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
        self.weights: dict[str, Any] | None = None
        self.overrides: list[str] = []
        self.model: dict[str, str] | None = None
        self._manifest: dict[str, Any] = {}  # empty on other ranks, and unless a training runs
        self._claimed = self._begun = False
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """In a training, claim the folder; in a test, compare the config with that of the training.

        Raises:
            FileExistsError: The folder holds another run, which this one does not continue.
            ValueError: The manifest of a tested run is damaged.
        """
        path = Path(trainer.default_root_dir) / CONFIG
        if stage == "test":
            read_manifest(path.parent)  # the results quote it
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
        folder, checkpoint = Path(trainer.default_root_dir), Path(trainer.ckpt_path or "")
        earlier = (read_manifest(folder) if trainer.ckpt_path else None) or {"sessions": []}
        if not trainer.is_global_zero:
            return
        session, self._started = new_session(trainer, self.config.encode()), now()
        data = data_of(trainer)
        source = earlier.get("origin")
        if checkpoint.is_file() and not checkpoint.resolve().is_relative_to(folder.resolve()):
            source = origin(checkpoint)
        last = earlier["sessions"][-1] if earlier["sessions"] else source or {}
        sizes = (data.batch_size, trainer.world_size, trainer.accumulate_grad_batches)
        if change := batch_change(last.get("batch"), *sizes):
            rank_zero_warn(change)
        self._manifest = {
            "seed": module_of(pl_module).seed,
            "data": data.fingerprints(),
            "protocol": dict(data.protocol_titles),
            "target_selection": monitored_targets(trainer),
            "wandb": wandb_run(trainer.loggers) or earlier.get("wandb"),
            "overrides": carried(earlier.get("overrides", {}), self.changes, yaml.safe_load(self.config)),
            "finished": earlier.get("finished", False),
            "origin": source,
            "weights": self.weights or earlier.get("weights"),
            "sessions": [*earlier["sessions"], session | {"batch": math.prod(sizes)}],
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the step at which another run's checkpoint was taken over."""
        forget_early_stop(trainer)
        if self._manifest and self._manifest["origin"]:
            self._manifest["origin"].setdefault("step", trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write config and manifest once the run has begun."""
        if not self._begun:
            self._save(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        """Record the time up to a checkpoint."""
        self._save(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the whole time and whether training is finished, and print the command that comes next."""
        done, planned = trainer.global_step, planned_steps(trainer)
        finished, early = not is_short(trainer), early_stop(trainer) if done < planned else None
        if self._begun or not self._manifest.get("finished"):  # else there was nothing to do
            self._save(trainer, finished, early)
        if self._manifest and not getattr(trainer, "fast_dev_run", False):
            folder, state = trainer.default_root_dir, f"{done:,} of {planned:,} steps"
            why = ", EarlyStopping ended it" * (early is not None)
            test = f"next: ppar test --config {shlex.quote(str(Path(folder) / CONFIG))}"
            follows = test if finished else f"not finished, {continuation(folder)}"
            print(f"{folder}: {state}{why}; {follows}", flush=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the folder up if the run failed before its first batch ended."""
        if self._claimed and not self._begun:
            with suppress(OSError):  # the folder may hold other files
                (Path(trainer.default_root_dir) / CONFIG).unlink()
                Path(trainer.default_root_dir).rmdir()

    def _save(self, trainer: L.Trainer, finished: bool = False, early: str | None = None) -> None:
        if not self._manifest:
            return
        folder = Path(trainer.default_root_dir)
        if not self._begun:
            path, self._begun = folder / CONFIG, True
            if path.is_file() and yaml.safe_load(path.read_text()) != yaml.safe_load(self.config):
                path.replace(folder / f"config.{len(self._manifest['sessions']) - 1}.yaml")
            write_whole(path, self.config.encode())
        memory = peak_memory(trainer.strategy.root_device)
        self._manifest["sessions"][-1] |= {"seconds": round(now() - self._started, 1), "peak_memory": memory}
        towers = (each.path for each in trainer.lightning_module.modules() if isinstance(each, FrozenImageTower))
        self._manifest["sessions"][-1]["clip_tower"] = next(towers, None)
        self._manifest |= {"finished": finished, "early_stop": early}
        self._manifest["steps"] = {"done": trainer.global_step, "planned": planned_steps(trainer)}
        write_whole(folder / "manifest.json", (json.dumps(self._manifest, indent=2) + "\n").encode())


def refuse_another(folder: Path, checkpoint: str | None) -> None:
    """Refuse to train in a folder that holds a run, unless the training continues that run.

    Args:
        folder: The run folder.
        checkpoint: Value of ``--ckpt_path``; None if it is not given.

    Raises:
        FileExistsError: The folder holds another run.
    """
    path = Path(checkpoint or "")
    if checkpoint is None or (path.is_file() and not path.resolve().is_relative_to(folder.resolve())):
        remedy = "continue it with --ckpt_path last, or give another folder with --trainer.default_root_dir"
        raise FileExistsError(f"{folder} already holds a run: {remedy}")
