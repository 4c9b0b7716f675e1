"""The manifest of a training run: what it ran on, from which code, how long and in how much memory."""

import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic as now
from typing import Any

import lightning as L
import torch

from ppar_lightning.callbacks.selection import monitored_targets
from ppar_lightning.disk.files import write_whole
from ppar_lightning.runs.manifest import read_manifest

PACKAGES = (
    "ppar-lightning",
    "torch",
    "lightning",
    "transformers",
    "torchmetrics",
    "albumentations",
    "opencv-python-headless",
    "numpy",
)
Session = dict[str, Any]


class RunManifest(L.Callback):
    """Keep ``manifest.json`` in the run folder: seed, data, protocols, selection, and each session of the training.

    ``data`` holds a fingerprint of each split that was opened, ``target_selection`` the metrics of unseen domains that
    checkpoints are selected by, ``finished`` whether training is. A session is one call of ``ppar fit``; a run that was
    stopped and continued has several. Its time (seconds, validation included) and peak memory (GiB) are brought up to
    date with each checkpoint, as what comes after the last one is lost, and at the end of training.
    """

    def __init__(self) -> None:
        """Start without sessions."""
        self.sessions: list[Session] = []
        self.about: dict[str, Any] = {}
        self._started = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what is known before the first step, after the sessions that this one continues."""
        self._started = now()
        earlier = read_manifest(Path(trainer.default_root_dir)) if trainer.ckpt_path else None
        self.sessions = [*(earlier or {"sessions": []})["sessions"], new_session(trainer)]
        self.about = about(trainer, pl_module)
        self._save(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the time up to a checkpoint."""
        self._save(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count all of the time; training is finished."""
        self._save(trainer, pl_module, finished=True)

    def _save(self, trainer: L.Trainer, module: L.LightningModule, finished: bool = False) -> None:
        if not trainer.is_global_zero or not self.sessions:
            return
        cost = {"seconds": round(now() - self._started, 1), "peak_memory": peak_memory(module.device)}
        self.sessions[-1] |= cost
        manifest = {**self.about, "finished": finished, "sessions": self.sessions}
        write_whole(Path(trainer.default_root_dir) / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())


def about(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """Describe what is trained: seed, data, protocols, and the unseen domains that checkpoints are selected by."""
    data = getattr(trainer, "datamodule", None)
    return {
        "seed": getattr(module, "seed", None),
        "data": data.fingerprints() if data is not None else {},
        "protocol": dict(data.protocol_titles) if data is not None else {},
        "target_selection": monitored_targets(trainer) if data is not None else [],
    }


def new_session(trainer: L.Trainer) -> Session:
    """Describe this process: when, on what, from which code, and by which config (a hash of the resolved one)."""
    config = Path(trainer.default_root_dir) / "config.yaml"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(trainer),
        "versions": versions(),
        "git": revision(Path(__file__).parent),
        "config": hashlib.sha256(config.read_bytes()).hexdigest()[:16] if config.is_file() else None,
    }


def hardware(trainer: L.Trainer) -> str:
    """Name the devices that train, all nodes together."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.num_devices * trainer.num_nodes} x {torch.cuda.get_device_name(device)}"
    return f"{os.cpu_count()} CPU cores ({processor()})" if device.type == "cpu" else device.type


def processor() -> str:
    """Name the CPU, where the system tells; else its architecture."""
    file = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", file.read_text() if file.is_file() else "", flags=re.MULTILINE)
    return named[1] if named else platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python, this package and those it rests on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"  # run from a source tree
    return found


def revision(folder: Path) -> str | None:
    """Git revision of a source tree, followed by ``-dirty`` where tracked files differ from it.

    Args:
        folder: A folder of the source tree.

    Returns:
        None if there is no git, or the folder is not under its control, as an installed package's is not.
    """
    git = ["git", "-C", str(folder)]
    try:
        tracked = subprocess.run([*git, "ls-files"], capture_output=True, text=True, check=True).stdout
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        found = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found if tracked else None


def peak_memory(device: torch.device) -> float:
    """Largest memory so far, in GiB: allocated on this process's CUDA device, or resident without one.

    The workers that load data are processes of their own and not counted.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)
