"""Pretrained networks by name that return feature maps: the backbones of transformers, and image towers like CLIP's."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig

from ppar_lightning.disk.tensors import cause
from ppar_lightning.segmenter import efficientnet_lite as efficientnet_lite  # registers itself with transformers
from ppar_lightning.segmenter.patch import resample_patch, set_patch
from ppar_lightning.segmenter.positions import resize_by_products
from ppar_lightning.segmenter.pretrained import IMAGENET_MEAN_STD, load_pretrained, load_weights, normalisation
from ppar_lightning.segmenter.towers import TOWERS, Tower

FAMILIES = (
    "choose a ResNet, ConvNeXt, Swin, PVT v2, EfficientNet-Lite, DINOv2/v3, Pixio, TIPSv2, CLIP, MetaCLIP 2 or SigLIP"
)

DERIVED = ("out_features", "out_indices", "transformers_version", "architectures", "dtype")
"""Config entries that do not affect the network, or that follow from the requested stages."""


class Backbone(nn.Module):
    """A network by name, with its own input normalisation, that returns the feature maps of chosen stages.

    Attributes:
        plain: Whether all maps have one resolution (a plain ViT) instead of strides 4, 8, ... (hierarchical).
        stride: Stride of the last map in pixels; the sides of the input must be multiples of it.
        channels: Channels of each map.
        config: Config from which the network can be rebuilt without its name.
    """

    stride: int
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        stages: Sequence[int] = (-1,),
        pretrained: bool = True,
        freeze_stages: int = 0,
        output_stride: int | None = None,
        config: dict[str, Any] | None = None,
        shown: Sequence[int] = (),
        patch: int | None = None,
    ) -> None:
        """Build the network.

        Args:
            name: ``tinyclip``, a hub id or a folder: a backbone of transformers, a CLIP, MetaCLIP 2 or SigLIP.
            stages: Stages whose maps are returned: 1 is the first stage (or block of a plain ViT), -1 the last.
            pretrained: Load the weights; False reads only the config and initialises them at random.
            freeze_stages: Freeze the stem and this many stages (blocks of a plain ViT): no gradient, and norms and
                dropout always in eval mode. 0 freezes nothing.
            output_stride: Stride of the last map. A ResNet is dilated to it (None: 16); other networks keep their own.
            config: Config to build the network from instead of reading it by name. Weights and normalisation must then
                be loaded into the network.
            shown: Those of ``stages`` whose maps no head reads; parameters that affect only these maps are frozen.
            patch: Side of a patch in pixels: a plain ViT's patch kernel is resized to it. None keeps its own.

        Raises:
            OSError: The model is neither on this machine nor can it be downloaded.
            ValueError: The model is no backbone, its weights do not fit, or it does not support an option.
        """
        super().__init__()
        known = read_config(name, config)
        self.plain = not hasattr(known, "depths")
        self.depth = depth_of(known)
        if patch is not None and not (self.plain and patch > 0 and isinstance(known.image_size, int)):
            raise ValueError(f"patch {patch}: leave it out for {name!r}, or give 1 or more for a ViT of square images")
        self.network = _load_network(name, known, stages, pretrained and config is None, patch)
        self.config = {key: value for key, value in known.to_diff_dict().items() if key not in DERIVED}
        if not 0 <= freeze_stages <= self.depth:
            raise ValueError(f"freeze_stages is {freeze_stages}: choose 0-{self.depth}, the stages of {name!r}")
        self.freeze_stages = freeze_stages
        self._set_stride(name, known, output_stride)
        # Persistent, so that a checkpoint keeps the normalisation it was trained with.
        mean, std = normalisation(name) if config is None else IMAGENET_MEAN_STD
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        try:
            self.channels = self._trial([stage not in shown for stage in stages])
        except Exception as error:  # each family has its own
            fault = f"backbone {name!r} is a {known.model_type!r}, which does not take images of any size"
            raise ValueError(f"{fault} ({cause(error)}): {FAMILIES}") from error
        for module in self._held():
            module.requires_grad_(False)
        self.train()

    def _set_stride(self, name: str, config: Any, output_stride: int | None) -> None:
        own = config.patch_size if self.plain else 2 ** (self.depth + 1)
        if config.model_type == "resnet":
            self.stride = output_stride or 16
            _dilate(stem_and_stages(self.network, self.depth)[1], own // self.stride)
        elif output_stride in (None, own):
            self.stride = own
        else:
            raise ValueError(f"output_stride {output_stride} needs a ResNet: leave it out, {name!r} has stride {own}")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen maps, each (B, C, h, w), of RGB images (B, 3, H, W) in [0, 1] of any floating type."""
        return self.network(((image - self.mean) / self.std).to(self.mean.dtype)).feature_maps

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts except the frozen stages, which stay in eval mode."""
        super().train(mode)
        for module in self._held():
            module.eval()
        return self

    def _held(self) -> list[nn.Module]:
        stem, stages = stem_and_stages(self.network, self.depth)
        return stem + stages[: self.freeze_stages] if self.freeze_stages else []

    @torch.enable_grad()
    def _trial(self, read: list[bool]) -> list[int]:
        """Run once to read the channels of the maps, and freeze parameters that no map with ``read`` depends on.

        DDP fails if a parameter gets no gradient; examples are DINOv2's mask token, Swin's last norm, and the norm of
        a map of ConvNeXt or Swin that is only shown.
        """
        self.eval()
        maps = self(torch.zeros(1, 3, 2 * self.stride, 2 * self.stride))
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        sums = [each.sum() for each, used in zip(maps, read, strict=False) if used]
        gradients = torch.autograd.grad(sums, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        return [each.shape[1] for each in maps]


def stem_and_stages(network: nn.Module, depth: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Split a network into the modules before its stages and the stages (blocks of a plain ViT), in order.

    The stages are the outermost module list with ``depth`` elements, as in the backbones of transformers.

    Raises:
        ValueError: The network has no such list.
    """
    before: dict[str, nn.Module] = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return [m for name, m in before.items() if not f"{path}.".startswith(f"{name}.")], list(module)
        if path:
            before[path] = module
    raise ValueError(f"{type(network).__name__} has no list of {depth} stages: choose another backbone")


def _dilate(stages: list[nn.Module], ratio: int) -> None:
    """Replace strides of a ResNet's last stages, together `ratio`, by dilation (DeepLab, arXiv 1606.00915).

    Weights and receptive fields do not change: every `ratio`-th position of the new map equals the old map's position.
    """
    dilation = 1
    for stage in stages[len(stages) - int(math.log2(ratio)) :]:
        for name, conv in stage.named_modules():
            if isinstance(conv, nn.Conv2d):
                (stride, _), conv.stride = conv.stride, (1, 1)
                if "shortcut" in name:
                    continue
                if conv.kernel_size == (3, 3):
                    conv.dilation = conv.padding = (dilation, dilation)
                dilation *= stride


def read_config(name: str, known: dict[str, Any] | None = None) -> Any:
    """Return the config of a backbone: ``known`` if it is given, else as it is read by name.

    Raises:
        OSError: The model is neither on this machine nor can it be downloaded.
        ValueError: The model is no backbone.
    """
    if known is not None:
        return AutoConfig.for_model(**known)
    config = load_pretrained(AutoConfig, name)
    config = getattr(config, "vision_config", config)
    named = getattr(config, "stage_names", None) if type(config) in MODEL_FOR_BACKBONE_MAPPING else None
    if config.model_type not in TOWERS and not (named and named[-1] == f"stage{len(named) - (named[0] == 'stem')}"):
        raise ValueError(f"backbone {name!r} is a {config.model_type!r}, without a stem and stages: {FAMILIES}")
    return config


def depth_of(config: Any) -> int:
    """Return the number of stages of a hierarchy, which lists their depths, or of blocks of a plain ViT."""
    return len(config.depths) if hasattr(config, "depths") else int(config.num_hidden_layers)


def _load_network(name: str, config: Any, stages: Sequence[int], pretrained: bool, patch: int | None) -> nn.Module:
    """Load or draw a network; ``config`` follows another patch size."""
    depth = depth_of(config)
    if config.model_type == "siglip_vision_model":
        config.vision_use_head = False  # SigLIP's pooling, which gives no map
    if config.model_type == "dinov3_vit":
        config.pos_embed_rescale = None  # an augmentation of the pretraining; the recipes have none
    if config.model_type not in TOWERS:
        shift = len(config.stage_names) - depth - 1  # -1 if the names begin with the first stage, not the stem
        config.out_indices = [stage % (depth + 1) + shift for stage in stages]
    # AutoBackbone.from_pretrained would ask the hub even about local folders.
    kind: Any = TOWERS.get(config.model_type) or MODEL_FOR_BACKBONE_MAPPING[type(config)]
    network = load_weights(kind, name, config) if pretrained else None
    if patch is not None and patch != config.patch_size:
        set_patch(config, patch)
        network = None if network is None else resample_patch(network, config)
    network = resize_by_products(kind(config) if network is None else network)
    return Tower(network, stages) if config.model_type in TOWERS else network
