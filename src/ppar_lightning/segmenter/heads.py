"""Decoders: DeepLabV3+, FPN and an auxiliary FCN for hierarchical backbones; concatenation and a pyramid for ViTs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, h, w) bilinearly to (B, C, *size)."""
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def conv(in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """Build a convolution that keeps the size, followed by batch norm and ReLU."""
    first = nn.Conv2d(in_channels, out_channels, kernel, 1, kernel // 2 * dilation, dilation, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(out_channels), nn.ReLU())


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with an image-level branch (DeepLabV3, arXiv 1706.05587)."""

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.local = nn.ModuleList(
            [conv(in_channels, channels), *(conv(in_channels, channels, 3, rate) for rate in rates)]
        )
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(in_channels, channels))
        self.project = conv(channels * (len(rates) + 2), channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C, h, w).

        Raises:
            ValueError: A batch norm in training mode gets a single image.
        """
        synced = any(isinstance(each, nn.SyncBatchNorm) for each in self.image.modules())
        if self.training and len(features) == 1 and not synced:
            fault = "head deeplabv3plus norms one value of each image, of all GPUs with --trainer.sync_batchnorm true"
            raise ValueError(f"{fault}: set --data.batch_size 2 or more, or another --model.segmenter.head")
        pooled = self.image(features).expand(-1, -1, *features.shape[2:])
        return self.project(torch.cat([*(branch(features) for branch in self.local), pooled], dim=1))


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ (arXiv 1802.02611): ASPP on the last map, refined with the first stage's map at stride 4."""

    def __init__(self, in_channels: tuple[int, int], channels: int, stride: int) -> None:
        """Build the head.

        Args:
            in_channels: Channels of the first and the last map.
            channels: Channels of the ASPP and the decoder.
            stride: Stride of the last map. The dilation rates are 6, 12, 18 at stride 16 and scale inversely.
        """
        super().__init__()
        self.aspp = ASPP(in_channels[1], channels, [max(1, rate * 16 // stride) for rate in (6, 12, 18)])
        self.low_level = conv(in_channels[0], 48)  # few channels, so that they do not outweigh the ASPP's
        self.decoder = nn.Sequential(conv(channels + 48, channels, 3), conv(channels, channels, 3))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decode the first map (stride 4) and the last one (stride `stride`) to (B, C, H / 4, W / 4)."""
        low_level = self.low_level(maps[0])
        context = resize(self.aspp(maps[-1]), low_level.shape[2:])
        return self.decoder(torch.cat([context, low_level], dim=1))


class FPN(nn.Module):
    """Feature pyramid (arXiv 1612.03144): levels are refined from coarse to fine and summed at the finest size."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        """Build the head.

        Args:
            in_channels: Channels of the maps, fine to coarse.
            channels: Channels of every level.
        """
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in in_channels])
        self.smooth = nn.ModuleList([conv(channels, channels, 3) for _ in in_channels])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decode maps, ordered fine to coarse, to (B, C, h, w) at the size of the finest."""
        levels = [self.lateral[-1](maps[-1])]
        for lateral, finer in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            levels.append(lateral(finer) + resize(levels[-1], finer.shape[2:]))
        *coarse, finest = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return sum((resize(level, finest.shape[2:]) for level in coarse), finest)


class FCN(nn.Sequential):
    """Auxiliary head (FCN, arXiv 1411.4038): one 3x3 convolution and a classifier, (B, C_in, h, w) to (B, K, h, w)."""

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__(conv(in_channels, channels, 3), nn.Conv2d(channels, num_classes, 1))


def norm(channels: int) -> nn.GroupNorm:
    """Build a group norm, which does not depend on the batch size: gcd(32, channels) groups."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


class Concat(nn.Sequential):
    """Maps of several blocks of a plain ViT, concatenated, mixed and upsampled (DGVFM, AAAI 2025)."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        """Build the head.

        Args:
            in_channels: Channels of the maps, all of one size.
            channels: Channels of the decoder.
        """
        mixing = nn.Conv2d(sum(in_channels), channels, 1, bias=False), norm(channels), nn.ReLU()
        first, second = (nn.ConvTranspose2d(channels, channels, 2, stride=2) for _ in range(2))
        super().__init__(*mixing, first, norm(channels), nn.GELU(), second, nn.GELU())

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decode maps, (B, C_in, h, w) each, to (B, C, 4 h, 4 w)."""
        return super().forward(torch.cat([*maps], dim=1))


class Pyramid(nn.Module):
    """Simple feature pyramid (ViTDet, arXiv 2203.16527): levels of a plain ViT's last map, summed at the finest.

    The levels are the map at half its resolution, at its own, and at each doubling of it until stride 4 or finer.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Build the head.

        Args:
            in_channels: Channels of the ViT's map.
            channels: Channels of every level.
            stride: Stride of the ViT's map in pixels, its patch size.
        """
        super().__init__()
        doublings = max(0, math.ceil(math.log2(stride / 4)))
        self.levels = nn.ModuleList([self._level(in_channels, channels, step) for step in range(-1, doublings + 1)])
        self.fuse = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels), nn.GELU())

    @staticmethod
    def _level(in_channels: int, channels: int, doublings: int) -> nn.Sequential:
        """Build a level: max pooling (-1), or per doubling a deconvolution that halves the channels; then 1x1."""
        layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if doublings < 0 else []
        width = in_channels
        for _ in range(doublings):
            layers += [nn.ConvTranspose2d(width, width // 2, 2, stride=2), norm(width // 2), nn.GELU()]
            width //= 2
        return nn.Sequential(*layers, nn.Conv2d(width, channels, 1, bias=False), norm(channels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decode the last map (B, C_in, h, w) to (B, C, 2**n h, 2**n w), stride 4 or finer."""
        fused, *levels = [level(maps[-1]) for level in self.levels]
        for finer in levels:
            fused = finer + resize(fused, finer.shape[2:])
        return self.fuse(fused)
