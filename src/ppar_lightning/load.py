"""A trained segmenter from wherever it is."""

from pathlib import Path
from typing import Any

import torch

from ppar_lightning.segmenter.card import LAST, describe_run
from ppar_lightning.segmenter.segmenter import Segmenter
from ppar_lightning.tensors import read_tensors


def load_segmenter(source: str | Path, device: str | torch.device = "cpu") -> Segmenter:
    """Load a trained segmenter: a plain ``nn.Module`` in eval mode, with no Lightning, CLIP or config file about it.

    segmenter = load_segmenter("runs/demo")
    label = segmenter.predict("picture.png")  # (H, W) uint8 train ids

    Args:
        source: A run folder, a checkpoint of a run (``.ckpt``), a folder that ``save_pretrained`` wrote, or a hub id.
        device: Where it shall run.

    Raises:
        FileNotFoundError: If there is no such file, or the run has no checkpoint.
        ValueError: If the file holds no segmenter of this package.
    """
    path, record = Path(source), None
    if path.is_dir() and (path / "config.yaml").is_file():
        record, path = describe_run(path), path / LAST
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: the run has written no checkpoint yet, let `ppar fit` go on")
    if path.suffix == ".ckpt":
        segmenter = _from_checkpoint(path)
    elif path.is_dir() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} holds neither a run (config.yaml) nor a saved segmenter (config.json)")
    else:
        segmenter = Segmenter.from_pretrained(str(source))
    segmenter.record = record
    return segmenter.to(device).eval().requires_grad_(False)


def _from_checkpoint(path: Path) -> Segmenter:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name a checkpoint that `ppar fit` has written")
    checkpoint: dict[str, Any] = read_tensors(path, "give a checkpoint that `ppar fit` has written")
    if "segmenter" not in checkpoint:
        raise ValueError(
            f"{path} does not say what its segmenter is built from: give one that this version of `ppar fit` wrote"
        )
    segmenter = Segmenter(**checkpoint["segmenter"])
    prefix = "segmenter."
    state = checkpoint["state_dict"]
    segmenter.load_state_dict({key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)})
    return segmenter
