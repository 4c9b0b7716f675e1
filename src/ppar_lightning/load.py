"""Load a trained segmenter from a run folder, a checkpoint, a saved folder or the hub."""

import json
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file
from torch import Tensor

from ppar_lightning.disk.tensors import cause, read_tensors
from ppar_lightning.runs.run_folder import LAST, is_run
from ppar_lightning.runs.stored import described
from ppar_lightning.runs.training_summary import describe_run
from ppar_lightning.segmenter.adapter import AdapterOptions, merged
from ppar_lightning.segmenter.reference import complete
from ppar_lightning.segmenter.segmenter import Segmenter

SAVED = ("config.json", "model.safetensors")
"""Files of save_pretrained."""

AGAIN = "give one that `ppar fit` or the save_pretrained of a segmenter of this version has written"


class SavedWeights(NamedTuple):
    """Weights as a file holds them, but for adapters, which are merged; what is missing there is missing here."""

    file: Path
    description: dict[str, Any]
    """Arguments that build the segmenter."""
    state: dict[str, Tensor]
    """Tensors by their names in the segmenter, and those of PPAR as ``objective...``, if the file has them."""


def load_segmenter(source: str | Path, device: str | torch.device = "cpu") -> Segmenter:
    """Load a trained segmenter as an ``nn.Module`` in eval mode, without Lightning, CLIP or a config file.

    segmenter = load_segmenter("runs/demo")
    label = segmenter.predict("picture.png")  # torch.Tensor, (H, W) uint8 train ids

    Args:
        source: A run folder, a checkpoint of a run (``.ckpt``), a folder that ``save_pretrained`` wrote, or a hub id.
        device: Device that the network is moved to.

    Raises:
        FileNotFoundError: There is no such file or model, or the run has no checkpoint.
        ValueError: The file holds no segmenter of this package, or weights that do not fit its description.
    """
    weights = read_weights(source)
    try:
        segmenter = Segmenter(**{**weights.description, "pretrained": False})
        own = {name: each for name, each in weights.state.items() if not name.startswith(("objective.", "whitening."))}
        segmenter.load_state_dict(own)  # strict, because missing weights would otherwise be random
    except Exception as error:  # Python, transformers and torch raise different errors
        raise ValueError(f"{source} cannot be loaded ({_fault(error)}): {AGAIN}") from error
    folder = Path(source).expanduser()
    segmenter.training_summary = describe_run(folder) if is_run(folder) else None
    return segmenter.to(device).eval().requires_grad_(False)


def read_weights(source: str | Path) -> SavedWeights:
    """Read what `load_segmenter` loads, and build nothing.

    Raises:
        FileNotFoundError: There is no such file or model, or the run has no checkpoint.
        ValueError: The file holds no segmenter.
    """
    path = Path(source).expanduser()
    if is_run(path) and not (path := path / LAST).is_file():
        remedy = "the run has no checkpoint yet; wait for the first, or resume `ppar fit`"
        raise FileNotFoundError(f"{path} not found: {remedy}")
    if path.suffix == ".ckpt":
        return _from_checkpoint(path)
    if path.is_dir() and not (path / "config.json").is_file():
        fault = f"{path} holds neither a run (config.yaml) nor a saved segmenter (config.json)"
        raise FileNotFoundError(f"{fault}: name a folder that `ppar fit` or save_pretrained has written")
    return _from_saved(path if path.exists() else source)


def _from_checkpoint(path: Path) -> SavedWeights:
    checkpoint: Any = read_tensors(path, "give a checkpoint that `ppar fit` has written")
    for entry in ("segmenter", "state_dict"):
        if not isinstance(checkpoint, dict) or entry not in checkpoint:
            raise ValueError(f"{path} holds no {entry}: {AGAIN}")
    description = described(checkpoint)
    adapter = AdapterOptions(**description.pop("adapter", {}))
    if "base" in checkpoint:
        backbone = Segmenter(**description | {"pretrained": True, "backbone_config": None}).backbone
        held = {name.replace(".base_layer.", ".") for name in checkpoint["state_dict"]}
        named = backbone.state_dict(prefix="segmenter.backbone.")
        complete(checkpoint, {name: tensor for name, tensor in named.items() if name not in held})
    state = {name.removeprefix("segmenter."): tensor for name, tensor in checkpoint["state_dict"].items()}
    return SavedWeights(path, description, merged(state, adapter))


def _from_saved(source: str | Path) -> SavedWeights:
    unknown = f"{source} is neither a run folder, a checkpoint (.ckpt), a saved segmenter nor a model on the hub"
    if Path(source).is_file():
        raise ValueError(f"{unknown}, but a file of another kind: name the folder of the run or saved segmenter")
    local = Path(source).is_dir()
    try:
        config, file = (Path(source, name) if local else Path(hf_hub_download(str(source), name)) for name in SAVED)
        return SavedWeights(file, described({"segmenter": json.loads(config.read_text())}), load_file(file))
    except Exception as error:  # the libraries of the hub and of safetensors have errors of their own
        if isinstance(error, HFValidationError | OSError) and not local:
            remedy = "give one that is there; to one with an owner who gives access, ask there, then `hf auth login`"
            raise FileNotFoundError(f"{unknown} (no such path, and {cause(error)}): {remedy}") from error
        raise ValueError(f"{source} cannot be loaded ({cause(error)}): {AGAIN}") from error


def _fault(error: Exception) -> str:
    """Say in a few words what does not fit: the first mismatch that torch lists."""
    listed = str(error).partition("state_dict for Segmenter:")[2].strip()
    return shorten(listed.splitlines()[0] if listed else cause(error), 160, placeholder=" ...")
