"""A session, which is one process of a run: start, hardware, versions and code, and differences from the training."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import lightning as L
import torch

from ppar_lightning.runs.changed_options import flat
from ppar_lightning.runs.manifest import read_manifest

Session = dict[str, Any]

PACKAGES = (
    *("ppar-lightning", "torch", "lightning", "transformers", "torchmetrics"),
    *("albumentations", "opencv-python-headless", "numpy"),
)
"""Packages whose versions are recorded."""


def new_session(trainer: L.Trainer, config: bytes) -> Session:
    """Describe this process: start, hardware, versions, git revision, and a hash of ``config.yaml``."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(trainer),
        "versions": versions(),
        "git": revision(Path(__file__).parent),
        "config": hashlib.sha256(config).hexdigest()[:16],
    }


def batch_change(before: int | None, size: int, ranks: int, parts: int) -> str | None:
    """Say that the images of an optimiser step are not as many as in the session before, and what to set.

    Args:
        before: Number in the session before; None if it was not recorded.
        size: Images of each rank and batch.
        ranks: Number of ranks.
        parts: Number of batches that are accumulated.
    """
    total = size * ranks * parts
    if before in (None, total):
        return None
    factors = f"data.batch_size {size} x ranks {ranks} x trainer.accumulate_grad_batches {parts}"
    return f"the total batch changes from {before} to {total} images ({factors}): set them so that it stays {before}"


def origin(checkpoint: Path) -> dict[str, Any]:
    """Describe a checkpoint of another run, from which a run continues: its path and hash, and the seed of that run."""
    manifest: dict[str, Any] = {}
    with suppress(ValueError):  # a damaged record of another run is no reason to stop this one
        manifest = read_manifest(checkpoint.parent.parent) or {}
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    batch = [None, *(session.get("batch") for session in manifest.get("sessions", []))][-1]
    return {"checkpoint": str(checkpoint.resolve()), "hash": digest, "seed": manifest.get("seed"), "batch": batch}


def hardware(trainer: L.Trainer) -> str:
    """Name the devices of all nodes together, or the CPU."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.num_devices * trainer.num_nodes} x {torch.cuda.get_device_name(device)}"
    return (
        f"{os.cpu_count()} CPU cores ({platform.processor() or platform.machine()})"
        if device.type == "cpu"
        else device.type
    )


def versions() -> dict[str, str]:
    """Look up the versions of Python, this package and its main requirements."""
    found = {name: [each.version for each in distributions(name=name)] for name in PACKAGES}  # none, for a source tree
    return {"python": platform.python_version()} | {name: (*found[name], "not installed")[0] for name in PACKAGES}


def revision(folder: Path) -> str | None:
    """Return the git revision of a source tree, followed by ``-dirty`` if tracked files differ from it.

    Args:
        folder: A folder of the source tree.

    Returns:
        None if there is no git, or if git does not track the folder, as with an installed package.
    """
    said = ""
    try:
        for words in ("ls-files --error-unmatch .", "describe --always --dirty --abbrev=40 --exclude=*"):
            command = ["git", "-C", str(folder), *words.split()]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return said


def peak_memory(device: torch.device) -> float:
    """Measure the peak memory so far, in GiB: allocated on the CUDA device, else resident in this process.

    Worker processes that load data are not counted. On Windows without CUDA the result is 0.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    if sys.platform == "win32":
        return 0.0
    if (status := Path("/proc/self/status")).exists():  # on Linux, `ru_maxrss` begins with what the parent process held
        return round(int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) / 2**20, 2)
    import resource  # Windows lacks this module

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30, 2)


def differences(
    manifest: Mapping[str, Any] | None, earlier: Mapping[str, Any], session: Session, data: Mapping[str, Any]
) -> Iterator[str]:
    """Compare hardware, revision, config file, versions and data of a test with the training's: a line per difference.

    Args:
        manifest: ``manifest.json`` of the run, if there is one.
        earlier: Split -> fingerprint of what the previous test read, because training opens no unseen domain.
        session: Description of this process.
        data: Split -> fingerprint of what this test reads.
    """
    sessions = manifest["sessions"] if manifest else []
    before = flat(sessions[-1] if sessions else session)
    for name, value in flat(session).items():
        if name != "started" and before.get(name) != value:
            yield f"{name}: {before.get(name) or 'not recorded'} in training, {value or 'not known'} now"
    known: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for where, splits in (("the previous test", earlier), ("training", (manifest or {}).get("data", {}))):
        known |= {split: (where, fingerprint) for split, fingerprint in splits.items()}
    for split, now in data.items():
        where, then = known.get(split, ("", now))
        if then["images"] != now["images"]:
            yield f"images of {split}: {then['images']} in {where}, {now['images']} now"
        elif then["hash"] != now["hash"]:
            yield f"images of {split}: as many as in {where}, but of other names or sizes"
        if then.get("ids", now.get("ids")) != now.get("ids"):  # an older record has none
            yield f"label ids of {split}: mapped to other classes than in {where}"
