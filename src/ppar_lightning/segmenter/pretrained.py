"""Pretrained models by name: a model included in the package, a hub id or a local folder."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig
from transformers.utils import cached_file, logging

from ppar_lightning.disk.tensors import cause
from ppar_lightning.segmenter.positions import resize_by_products

CLIP_MEAN_STD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Colour = tuple[float, float, float]

FAMILY_MEAN_STD: dict[str, tuple[Colour, Colour]] = {
    "clip": CLIP_MEAN_STD,
    "metaclip_2": CLIP_MEAN_STD,
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "tipsv2": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Type of a model -> mean and standard deviation that it was trained with."""

SHIPPED = {path.name: path for path in Path(__file__).with_name("shipped").iterdir()}
"""Models included in the package. ``resnet_small``, a ResNet-18 of half the width, is a config without weights; the
weights of ``efficientnet_lite0`` come with the extra ``lite``."""

RENDERED = "tinyclip"
"""The included CLIP, which has seen nothing but the rendered streets."""


def resolve(name: str) -> str:
    """Return the folder of an included model, and expand ``~``; return any other name unchanged."""
    return str(Path(name).expanduser() if name.startswith("~") else SHIPPED.get(name, name))


def load_pretrained(loader: Any, name: str, **options: Any) -> Any:
    """Call ``loader.from_pretrained`` and turn any failure into an error of one line.

    Args:
        loader: A class of transformers.
        name: Name of an included model, a hub id or a folder.
        options: Further arguments of ``from_pretrained``.

    Raises:
        ImportError: A package that the model needs is not installed.
        OSError: The model is neither on this machine nor can it be downloaded, it is damaged, or it would run code.
    """
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()  # reading takes a second at most; downloads keep their bar
    logging.set_verbosity_error()  # silences the warning that the other tower is unused
    try:
        # transformers reads pickles with weights_only; without the option it would ask whether to run a model's code
        return loader.from_pretrained(resolve(name), trust_remote_code=False, **options)
    except MemoryError:
        raise
    except ImportError as error:
        if "\n" not in str(error):  # it names the package to install
            raise
        remedy = "install it with pip, or name a model without it, such as a SigLIP 2 in place of a SigLIP"
        raise ImportError(f"model {name!r} cannot be loaded ({cause(error)}): {remedy}") from error
    except Exception as error:  # transformers, tokenizers and safetensors raise errors of their own
        raise OSError(f"model {name!r} cannot be loaded ({cause(error)}): {_remedy(name)}") from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def load_weights(loader: Any, name: str, config: Any) -> Any:
    """Load a network in float32, whatever the file holds, and refuse a file that lacks weights of it.

    Args:
        loader: A class of transformers.
        name: Name of an included model, a hub id or a folder.
        config: Config of the network.

    Raises:
        OSError: The model cannot be loaded.
        ValueError: Weights are missing, which transformers would draw at random.
    """
    network, report = load_pretrained(loader, name, config=config, dtype=torch.float32, output_loading_info=True)
    # ConvNeXt and Swin get new norms for their maps; every other weight must be in the file.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("hidden_states_norms"))
    if hasattr(network, "pixio") and missing == ["layernorm.bias", "layernorm.weight"]:
        network.layernorm.load_state_dict(network.pixio.layernorm.state_dict())  # its maps' norm, which no file holds
    elif missing:
        raise ValueError(f"model {name!r} lacks {missing[0]} and others: give the config.json it was saved with")
    return resize_by_products(network)


def _remedy(name: str) -> str:
    """Say what to do about a model that cannot be loaded."""
    if name in SHIPPED:
        return "set --model.segmenter.pretrained false, as it comes without weights, or install the package again"
    if Path(resolve(name)).is_dir():
        return "copy it there again, with its tokenizer, or give the folder of another transformers model"
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        return "give a folder that exists, or a hub id"
    download = f"run `hf download {name} --force-download` where there is a network, if gated after `hf auth login`"
    return f"{download}, or give a folder that exists, and start in the folder that it is relative to"


def normalisation(name: str) -> tuple[Colour, Colour]:
    """Return the mean and standard deviation, for RGB in [0, 1], that a model was trained with.

    They are read from its ``preprocessor_config.json``, with its rescaling if that is unusual. Without the file they
    are those of its family in `FAMILY_MEAN_STD`, or else ImageNet's.

    Raises:
        ValueError: The file is damaged, or does not hold three numbers for each of the two.
    """
    path = cached_file(resolve(name), "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if path is not None:
        try:
            settings = dict(json.loads(Path(path).read_text()))
            unit = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
            if settings.get("do_normalize") is False:
                settings |= {"image_mean": [0] * 3, "image_std": [1] * 3}
            if "image_mean" in settings and "image_std" in settings:
                values = np.array([settings["image_mean"], settings["image_std"]], float).reshape(2, 3) / unit
                mean, std = values.tolist()
                return tuple(mean), tuple(std)
        except (TypeError, ValueError, RecursionError) as error:
            remedy = "it must be JSON with three numbers each as image_mean and image_std, or without both"
            raise ValueError(f"{path} cannot be read ({cause(error)}): {remedy}") from error
    family = load_pretrained(AutoConfig, name).model_type.removesuffix("_vision_model")
    return FAMILY_MEAN_STD.get(family, IMAGENET_MEAN_STD)


def revision(name: str) -> str:
    """Identify a model: by its commit on the hub, or by a hash of a folder's weights, configs and tokenizer files."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        load_pretrained(AutoConfig, name)  # raises a one-line error if there is no such model
        return Path(str(cached_file(name, "config.json"))).parent.name  # the hub's cache: snapshots/{commit}/
    digest = hashlib.sha256()
    for path in sorted(
        path for kind in ("safetensors", "bin", "json", "txt", "model") for path in folder.glob(f"*.{kind}")
    ):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
