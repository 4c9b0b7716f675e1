"""The machine: devices, versions, the run folder and its disk."""

import os
from pathlib import Path

import lightning
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ppar_lightning.callbacks.provenance import refuse_another
from ppar_lightning.callbacks.session import hardware, versions
from ppar_lightning.doctor.finding import Finding, attempt
from ppar_lightning.runs.run_folder import CONFIG, is_run


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
    """Check whether a run can be written into its folder, by the rule of ``fit``. The trial shows whether it has room.

    If the config is the one saved in that folder, this is only a note, because ``ppar test`` uses that config.

    Args:
        config: All options.
    """
    folder = Path(config.trainer.default_root_dir)
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if not os.access(parent, os.W_OK):
        elsewhere = "allow it, or give another folder with --trainer.default_root_dir"
        return [Finding("error", "run folder", f"{parent} cannot be written to; {elsewhere}")]
    if not is_run(folder):
        return [Finding("ok", "run folder", str(folder))]
    own = (folder / CONFIG).resolve() in [Path(path).resolve() for path in config.config or []]
    return attempt(
        "run folder", lambda: refuse_another(folder, config.ckpt_path), str(folder), "note" if own else "error"
    )
