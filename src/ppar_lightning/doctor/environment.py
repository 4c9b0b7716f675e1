"""The machine: versions, devices, the run folder and its disk, W&B."""

import os
import platform
import shutil
from pathlib import Path

import lightning
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ppar_lightning.callbacks.loggers import has_account
from ppar_lightning.doctor.finding import Finding

GIGABYTE = 1e9
SMALLEST_CHECKPOINT = 64_000_000
"""Bytes that are asked for at least: a small network's checkpoint, its pictures and curves."""


def check_versions() -> Finding:
    """Name the versions and the GPUs."""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    shown = ", ".join(f"{gpu.name} ({gpu.total_memory / GIGABYTE:.0f} GB)" for gpu in gpus) or "no GPU"
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    versions = f"torch {torch.__version__} with {cuda}, Lightning {lightning.__version__}"
    return Finding("ok", "machine", f"Python {platform.python_version()}, {versions}, {shown}, {os.cpu_count()} cores")


def check_devices(trainer: Namespace) -> tuple[Finding, int]:
    """Let Lightning choose the devices, as a run would.

    Args:
        trainer: The config's ``trainer``.

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


def check_run_folder(folder: Path, resumed: bool, own: bool, weights: int) -> list[Finding]:
    """See whether a run can be written.

    Args:
        folder: The run folder; it need not exist.
        resumed: Whether the config continues a run.
        own: Whether the config is the one that the folder holds, which `ppar test` takes too.
        weights: Bytes of the backbone's weights, 0 if unknown.
    """
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    needed = max(3 * weights, SMALLEST_CHECKPOINT)  # the weights and AdamW's two moments
    remedy = "free some, or give another folder with --trainer.default_root_dir"
    room = f"{free / GIGABYTE:.1f} GB free in {parent}, a checkpoint may take {needed / GIGABYTE:.1f} GB"
    findings = [Finding("ok", "disk", room) if free >= needed else Finding("error", "disk", f"{room}; {remedy}")]
    if not os.access(parent, os.W_OK):
        message = f"{parent} cannot be written to; give another folder with --trainer.default_root_dir"
        findings.append(Finding("error", "run folder", message))
    elif (folder / "config.yaml").exists() and not resumed:
        message = f"{folder} already holds a run: continue it with --ckpt_path last, or give another folder"
        findings.append(Finding("note" if own else "error", "run folder", f"{message} with --trainer.default_root_dir"))
    else:
        findings.append(Finding("ok", "run folder", str(folder)))
    return findings


def check_wandb(trainer: Namespace) -> Finding:
    """Say where a W&B logger would log to."""
    if "WandbLogger" not in str(trainer.logger):
        return Finding("ok", "W&B", "not asked for")
    if "WANDB_MODE" in os.environ:
        return Finding("ok", "W&B", f"WANDB_MODE is {os.environ['WANDB_MODE']}")
    if has_account():
        return Finding("ok", "W&B", "there is an account on this machine")
    message = "no account on this machine, a run logs offline; `wandb login` before it, or `wandb sync` after it"
    return Finding("note", "W&B", message)
