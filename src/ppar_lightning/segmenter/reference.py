"""A checkpoint without the frozen weights of the backbone: a hash says which ones it was trained on."""

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def frozen(module: nn.Module) -> dict[str, Tensor]:
    """Return the frozen weights of the backbone by their names in a module.

    Those of the patches are not among them: ``patch`` resizes the kernel, which depends on torch and the machine.
    """
    named = [(name, p.detach()) for name, p in module.named_parameters() if not p.requires_grad]
    return {name: tensor for name, tensor in named if "backbone." in name and "patch_embed" not in name}


def fingerprint(base: Mapping[str, Tensor]) -> str:
    """Hash float32 weights of a backbone, with their names in a segmenter without adapters."""
    plain = {name.partition("backbone.")[2].replace(".base_layer.", "."): tensor for name, tensor in base.items()}
    digest = hashlib.sha256()
    for name in sorted(plain):
        digest.update(name.encode())
        digest.update(plain[name].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def named_base(module: nn.Module, referable: bool) -> str:
    """Return the hash of the frozen weights of the backbone in a module.

    Args:
        module: The module.
        referable: Whether they are, and stay, those that the name of the backbone gives.

    Raises:
        ValueError: They are not.
    """
    if not referable:
        fault = "only the checkpoint has the backbone's weights (soma, --weights, pretrained false, FSDP)"
        raise ValueError(f"{fault}: set --model.checkpoint_base whole")
    return fingerprint(frozen(module))


def shorten(checkpoint: dict[str, Any], base: Mapping[str, Tensor], known: str) -> None:
    """Leave the frozen weights of the backbone, name -> tensor, out of a checkpoint, which gets their hash instead."""
    checkpoint["state_dict"] = {name: each for name, each in checkpoint["state_dict"].items() if name not in base}
    checkpoint["base"] = known


def complete(checkpoint: dict[str, Any], base: Mapping[str, Tensor]) -> None:
    """Add the frozen weights of the backbone to a checkpoint, or compare them if it is whole.

    Args:
        checkpoint: Its content, which is changed.
        base: Name -> frozen weight, of the backbone as its name gives it.

    Raises:
        ValueError: The checkpoint was trained on others.
    """
    state, here = checkpoint["state_dict"], fingerprint(base)
    there = checkpoint.get("base") or fingerprint({name: state.get(name, tensor) for name, tensor in base.items()})
    if there != here:
        fault = f"the checkpoint needs backbone weights with the hash {there}, model.segmenter.backbone has {here}"
        raise ValueError(f"{fault}: put the former there, or, if it is whole, set --model.checkpoint_base whole")
    checkpoint["state_dict"] = {**base, **state}
