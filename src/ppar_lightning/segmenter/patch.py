"""Another patch size for a plain ViT than it was trained with."""

from typing import Any

from torch import nn
from torch.nn import functional


def set_patch(config: Any, patch: int) -> None:
    """Change the patch size in a config, not the number of positions, which a network resizes to an image's patches."""
    config.image_size = config.image_size // config.patch_size * patch
    config.patch_size = patch


def resample_patch(network: Any, config: Any) -> Any:
    """Rebuild a plain ViT with its patch kernel resized bicubically, as Rein (arXiv 2312.04265) does with DINOv2.

    Args:
        network: A network of transformers with one convolution, that of the patches.
        config: Its config with another patch size, see `set_patch`.
    """
    state = network.state_dict()
    (name,) = [f"{path}.weight" for path, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    state[name] = functional.interpolate(state[name], (config.patch_size, config.patch_size), mode="bicubic")
    other = type(network)(config)
    other.load_state_dict(state)
    return other
