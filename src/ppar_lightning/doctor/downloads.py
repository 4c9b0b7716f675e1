"""Pretrained weights: checks whether they are on this machine, without loading them or using the network."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from jsonargparse import Namespace

from ppar_lightning.data.domain import Domain
from ppar_lightning.doctor.finding import Finding
from ppar_lightning.segmenter.pretrained import RENDERED, SHIPPED, resolve

FILES = {"config": ("config.json",), "weights": ("*.safetensors", "pytorch_model*.bin")}
"""What is read of a model -> patterns of its files."""


def check_downloads(model: Namespace) -> list[Finding]:
    """Look for the weights of backbone and CLIP, as far as training reads them.

    Args:
        model: The options below ``model`` in the config.
    """
    segmenter, ppar = model.segmenter, model.ppar
    found = look_for("backbone", segmenter.backbone, "weights" if segmenter.pretrained else "config")
    return found + look_for("CLIP", ppar.clip, "weights") if reads_clip(ppar) else found


def reads_clip(ppar: Namespace) -> bool:
    """Return whether training uses a tower of CLIP."""
    return bool(ppar.enabled and (ppar.text_embeddings is None or ppar.context == "clip"))


def check_rendered(model: Namespace, sources: Mapping[str, Domain]) -> list[Finding]:
    """Note that the CLIP that comes with the package would be used on images of another kind than it knows.

    Args:
        model: The options below ``model`` in the config.
        sources: The domains to train on, by name.
    """
    others = [name for name, domain in sources.items() if not domain.rendered(name)]
    used = {"ppar.clip openai/clip-vit-base-patch16": reads_clip(model.ppar) and model.ppar.clip == RENDERED}
    backbone = "segmenter.backbone microsoft/resnet-50 --model.segmenter.head deeplabv3plus"
    used[backbone] = model.segmenter.pretrained and model.segmenter.backbone == RENDERED
    fault = f"{RENDERED} has learnt only from this package's rendered streets, and {', '.join(others)} shows others"
    return [Finding("note", RENDERED, f"{fault}: set --model.{remedy}") for remedy in used if others and used[remedy]]


def look_for(subject: str, name: str, wanted: str) -> list[Finding]:
    """Say where a model is, or that the first run downloads it. If neither holds, the trial says what is wrong.

    Args:
        subject: What the model is used for.
        name: Hub id, folder, or name of a model that comes with the package.
        wanted: ``weights``, or ``config`` if no weights are read.
    """
    folder = Path(resolve(name))
    local = folder.is_dir() or name.count("/") > 1
    with suppress(HFValidationError):
        if not local and isinstance(config := try_to_load_from_cache(name, "config.json"), str):
            folder = Path(config).parent
    if any(any(folder.glob(pattern)) for pattern in FILES[wanted]):
        place = "comes with the package" if name in SHIPPED else f"{wanted} in {folder}"
        return [Finding("ok", subject, f"{name}, {place}")]
    if constants.HF_HUB_OFFLINE or local:
        return []
    remedy = f"run `hf download {name}` where there is a network beforehand"
    message = f"the {wanted} of {name} are not in the cache: the first run downloads them; {remedy}"
    return [Finding("note", subject, message)]
