"""The machine: versions, devices, the run folder and its disk."""

import os
import platform
import shutil
from pathlib import Path

import lightning
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ppar_lightning.callbacks.provenance import refuse_another
from ppar_lightning.doctor.finding import Finding, Level, attempt
from ppar_lightning.runs.run_folder import CONFIG, is_run


def check_versions() -> Finding:
    """List the versions and the GPUs."""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    shown = ", ".join(f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus) or "no GPU"
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    versions = f"torch {torch.__version__} with {cuda}, Lightning {lightning.__version__}"
    return Finding("ok", "machine", f"Python {platform.python_version()}, {versions}, {shown}, {os.cpu_count()} cores")


def check_devices(trainer: Namespace) -> tuple[Finding, int]:
    """Let Lightning choose the devices, as a run would.

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
    kind = type(chosen.accelerator).__name__.removesuffix("Accelerator")
    nodes = f" on each of {trainer.num_nodes} nodes" if trainer.num_nodes > 1 else ""
    return Finding("ok", "devices", f"{chosen.num_devices} x {kind}{nodes}"), chosen.num_devices * trainer.num_nodes


def check_run_folder(config: Namespace, weights: int) -> list[Finding]:
    """Check whether a run can be written into its folder, by the rule of ``fit``, and what is free on the disk.

    If the config is the one saved in that folder, this is only a note, because ``ppar test`` uses that config.

    Args:
        config: All options.
        weights: Size of the backbone's weights in bytes, 0 if it is not known.
    """
    folder = Path(config.trainer.default_root_dir)
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    needed = max(3 * weights, 64_000_000)  # AdamW keeps two moments of each weight; pictures and curves need some too
    free = shutil.disk_usage(parent).free
    elsewhere = "give another folder with --trainer.default_root_dir"
    room = f"{free / 1e9:.1f} GB free in {parent}, a checkpoint may take {needed / 1e9:.1f} GB"
    short = f"; free some, or {elsewhere}" if free < needed else ""
    disk = Finding("error" if short else "ok", "disk", room + short)
    if not os.access(parent, os.W_OK):
        return [disk, Finding("error", "run folder", f"{parent} cannot be written to; {elsewhere}")]
    if not is_run(folder):
        return [disk, Finding("ok", "run folder", str(folder))]
    own = (folder / CONFIG).resolve() in [Path(path).resolve() for path in config.config or []]
    level: Level = "note" if own else "error"
    return [disk, *attempt("run folder", lambda: refuse_another(folder, config.ckpt_path), str(folder), level)]
