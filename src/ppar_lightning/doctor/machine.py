"""The machine: devices, versions, the run folder and its disk."""

import os
import shutil
from pathlib import Path

import lightning
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ppar_lightning.callbacks.provenance import refuse_another
from ppar_lightning.callbacks.session import hardware, versions
from ppar_lightning.doctor.finding import Finding, attempt
from ppar_lightning.runs.run_folder import CONFIG, is_run

LEAST = 64_000_000
"""Bytes that a run needs at least."""


def check_devices(trainer: Namespace) -> tuple[Finding, int]:
    """Let Lightning choose the devices, as a run would, and list them and the versions.

    Args:
        trainer: Options of the trainer.

    Returns:
        The finding, and the number of processes that share the training images, 1 if there is no such device.
    """
    try:
        chosen = lightning.Trainer(
            accelerator=trainer.accelerator, devices=trainer.devices, logger=False, enable_checkpointing=False
        )
    except (MisconfigurationException, ValueError) as error:
        asked = f"--trainer.accelerator {trainer.accelerator}, --trainer.devices {trainer.devices}"
        return Finding("error", "devices", f"{error}; the config asks for {asked}: give what this machine has"), 1
    machine = ", ".join([hardware(chosen), *map(" ".join, versions().items())])
    return Finding("ok", "devices", machine), chosen.num_devices * trainer.num_nodes


def check_run_folder(config: Namespace) -> list[Finding]:
    """Check whether a run can be written into its folder, by the rule of ``fit``, and what is free on the disk.

    If the config is the one saved in that folder, this is only a note, because ``ppar test`` uses that config.

    Args:
        config: All options.
    """
    folder = Path(config.trainer.default_root_dir)
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    room = f"{folder}, {free / 1e9:.1f} GB free; with AdamW a checkpoint takes three times the model"
    if free < LEAST or not os.access(parent, os.W_OK):
        elsewhere = "free some, allow writing, or give another folder with --trainer.default_root_dir"
        return [Finding("error", "run folder", f"{parent} is full or cannot be written to; {elsewhere}")]
    if not is_run(folder):
        return [Finding("ok", "run folder", room)]
    own = (folder / CONFIG).resolve() in [Path(path).resolve() for path in config.config or []]
    return attempt("run folder", lambda: refuse_another(folder, config.ckpt_path), room, "note" if own else "error")
