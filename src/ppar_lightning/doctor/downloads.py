"""Pretrained weights: checks whether they are on this machine, without loading them or using the network."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from jsonargparse import Namespace

from ppar_lightning.data.domain import Domain
from ppar_lightning.doctor.finding import Finding, attempt
from ppar_lightning.segmenter.efficientnet_lite import weight_file
from ppar_lightning.segmenter.pretrained import RENDERED, SHIPPED, resolve

CONFIG = "config.json"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def check_downloads(model: Namespace) -> list[Finding]:
    """Look for the weights of backbone and CLIP, as far as training reads them.

    Args:
        model: The options below ``model`` in the config.
    """
    segmenter, ppar = model.segmenter, model.ppar
    backbone = look_for("backbone", segmenter.backbone, "weights" if segmenter.pretrained else "config")
    return [backbone, look_for("CLIP", ppar.clip, "weights")] if reads_clip(ppar) else [backbone]


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


def look_for(subject: str, name: str, wanted: str) -> Finding:
    """Look for a model on this machine.

    Args:
        subject: What the model is used for.
        name: Hub id, folder, or name of a model that comes with the package.
        wanted: ``weights``, or ``config`` if no weights are read.
    """
    if name == "efficientnet_lite0" and wanted == "weights":
        return attempt(subject, weight_file, f"{name}, weights in a package")[0]
    try:
        folder = local_folder(name)
    except HFValidationError as error:
        return Finding("error", subject, f"{error}; give a hub id or a folder that exists")
    patterns = WEIGHTS if wanted == "weights" else (CONFIG,)
    if folder and (folder / CONFIG).is_file() and any(any(folder.glob(pattern)) for pattern in patterns):
        place = "comes with the package" if name in SHIPPED else f"{wanted} in {folder}"
        return Finding("ok", subject, f"{name}, {place}")
    remedy = f"run `hf download {name}` where there is a network"
    if name in SHIPPED:
        message = f"{name} comes as a config without weights; set --model.segmenter.pretrained false"
    elif Path(name).is_dir():
        message = f"folder {name} holds no {wanted}; save the model there with save_pretrained"
    elif constants.HF_HUB_OFFLINE:
        message = f"the {wanted} of {name} are not in the cache, and HF_HUB_OFFLINE is set; {remedy}"
    else:
        message = f"the {wanted} of {name} are not in the cache: the first run downloads them; {remedy} beforehand"
        return Finding("note", subject, message)
    return Finding("error", subject, message)


def weights_size(name: str) -> int:
    """Return the size of a model's weight files on this machine in bytes, or 0 if there are none.

    Raises:
        HFValidationError: The name is neither a folder nor a valid hub id.
    """
    folder = local_folder(name)
    return max(sum(path.stat().st_size for path in folder.glob(kind)) for kind in WEIGHTS) if folder else 0


def local_folder(name: str) -> Path | None:
    """Return the folder of a model: in the package, given as a folder, or in the hub's cache.

    Raises:
        HFValidationError: The name is none of these and no valid hub id.
    """
    folder = Path(resolve(name))
    if folder.is_dir():
        return folder
    config = try_to_load_from_cache(name, CONFIG)
    return Path(config).parent if isinstance(config, str) else None
