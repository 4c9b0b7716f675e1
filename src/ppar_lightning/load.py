"""Load a trained segmenter from a run folder, a checkpoint, a saved folder or the hub."""

from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from ppar_lightning.disk.tensors import cause, read_tensors
from ppar_lightning.runs.run_folder import LAST, is_run
from ppar_lightning.runs.stored import described
from ppar_lightning.runs.training_summary import describe_run
from ppar_lightning.segmenter.segmenter import Segmenter

HUB = {
    HFValidationError: "it is not a valid hub id",
    GatedRepoError: "its owner has not given access; ask on its page of the hub, then run `hf auth login`",
    LocalEntryNotFoundError: "the hub cannot be reached",
    RepositoryNotFoundError: "the hub shows no model of that name",
}
"""Error of the hub library -> the reason in words; its own messages name neither the model nor a remedy."""


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
    path, summary = Path(source).expanduser(), None
    if is_run(path):
        summary, path = describe_run(path), path / LAST
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} not found: the run has no checkpoint yet; wait for the first, or resume `ppar fit`"
            )
    if path.suffix == ".ckpt":
        segmenter = _from_checkpoint(path)
    elif path.is_dir() and not (path / "config.json").is_file():
        fault = f"{path} holds neither a run (config.yaml) nor a saved segmenter (config.json)"
        raise FileNotFoundError(
            f"{fault}: name a folder that `ppar fit` or the segmenter's save_pretrained has written"
        )
    else:
        segmenter = _from_saved(path if path.exists() else source)
    segmenter.training_summary = summary
    return segmenter.to(device).eval().requires_grad_(False)


def _from_checkpoint(path: Path) -> Segmenter:
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: name a checkpoint that `ppar fit` has written")
    checkpoint: Any = read_tensors(path, "give a checkpoint that `ppar fit` has written")
    again = "give one that this version of `ppar fit` wrote"
    for entry in ("segmenter", "state_dict"):
        if not isinstance(checkpoint, dict) or entry not in checkpoint:
            raise ValueError(f"{path} holds no {entry}: {again}")
    prefix, state = "segmenter.", checkpoint["state_dict"]
    try:
        segmenter = Segmenter(**{**described(checkpoint), "pretrained": False})
        segmenter.load_state_dict({key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)})
    except Exception as error:  # Python, transformers and torch raise different errors
        raise ValueError(f"{path}: weights and description do not fit ({_fault(error)}): {again}") from error
    return segmenter


def _from_saved(source: str | Path) -> Segmenter:
    unknown = f"{source} is neither a run folder, a checkpoint (.ckpt), a saved segmenter nor a model on the hub"
    if Path(source).is_file():
        raise ValueError(f"{unknown}, but a file of another kind: name the folder of the run or saved segmenter")
    try:
        # Strict, because missing weights would otherwise be random.
        return Segmenter.from_pretrained(str(source), strict=True, pretrained=False)
    except Exception as error:  # as above; the hub library adds errors of its own
        if isinstance(error, HFValidationError | OSError) and not Path(source).is_dir():
            why = next((why for kind, why in HUB.items() if isinstance(error, kind)), cause(error))
            raise FileNotFoundError(f"{unknown} (no such path, and {why}): give one that is there") from error
        again = "give a folder that the save_pretrained of a segmenter of this version has written"
        raise ValueError(f"{source} cannot be loaded ({_fault(error)}): {again}") from error


def _fault(error: Exception) -> str:
    """Say in a few words what does not fit: the first mismatch that torch lists."""
    listed = str(error).partition("state_dict for Segmenter:")[2].strip()
    return shorten(listed.splitlines()[0] if listed else cause(error), 160, placeholder=" ...")
