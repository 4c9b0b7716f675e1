"""ISW, instance selective whitening (RobustNet, Choi et al. 2021, arXiv 2103.15597): a baseline, alone or with PPAR.

Differences from the published method:

- The architecture does not change: RobustNet replaces batch norm by instance norm after the stem and the first two
  stages; here the maps of the first stages are standardised only for the loss, so any hierarchical backbone works.
- RobustNet stops after some epochs and passes over the source images to find the style; here the statistics are
  gathered on the training crops during a share of training.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppar_lightning.distributed import sum_together, world_size
from ppar_lightning.images.colour import LUMA, saturate, turn_hue
from ppar_lightning.images.variation import gaussian_blur

Maps = Sequence[Tensor]
Seed = tuple[int, ...]

STRENGTH, TURN = 0.8, 0.3
"""Largest relative change of brightness, contrast and saturation; and largest turn of the hue, 1 being the circle."""


@dataclass(frozen=True)
class ISWOptions:
    """Options of the whitening loss; docs/method.md gives the formulas.

    Args:
        enabled: Add the whitening loss.
        weight: Weight of the loss, at least 0.
        clusters: Number of clusters of the variances, at least 2; all but the lowest count as style.
        statistics: Two shares of training, 0 <= start <= end < 1. At the first, the gathering of variances starts; at
            the second, the mask is fixed and the loss starts.
    """

    enabled: bool = False
    weight: float = 0.6
    clusters: int = 3
    statistics: tuple[float, float] = (0.05, 0.10)

    def __post_init__(self) -> None:
        """Refuse values with which no element would ever be selected.

        Raises:
            ValueError: There are fewer than 2 clusters, or the shares are not 0 <= start <= end < 1.
        """
        if self.clusters < 2 or not 0 <= self.statistics[0] <= self.statistics[1] < 1:
            remedy = "give at least 2 clusters, and shares of training 0 <= start <= end < 1 as statistics"
            raise ValueError(f"isw.clusters is {self.clusters} and isw.statistics {self.statistics}: {remedy}")


class SelectiveMask(nn.Module):
    """Selects the elements of one feature map's covariance that a change of style changes."""

    variance: Tensor
    images: Tensor
    selected: Tensor

    def __init__(self, channels: int) -> None:
        """Start without statistics and with no element selected.

        Args:
            channels: C, the channels of the feature map.
        """
        super().__init__()
        self.register_buffer("variance", torch.zeros(channels, channels))
        self.register_buffer("images", torch.zeros(()))
        self.register_buffer("selected", torch.zeros(channels, channels, dtype=torch.bool))

    def select(self, clusters: int) -> None:
        """Cluster the mean variances above the diagonal, on the host, and select all clusters but the lowest."""
        chosen = torch.zeros(self.selected.shape, dtype=torch.bool)
        above = torch.ones_like(chosen).triu(diagonal=1)
        values = (self.variance / self.images.clamp_min(1)).cpu()[above]
        chosen[above] = k_means(values, clusters) > 0
        self.selected.copy_(chosen)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean absolute value of the selected elements, (B,); 0 if none is selected."""
        chosen = covariance(features).abs() * self.selected
        return chosen.sum(dim=(1, 2)) / self.selected.sum().clamp_min(1)


class InstanceSelectiveWhitening(nn.Module):
    """L_isw over the maps of the first stages. Its buffers, statistics and masks, are the same on every rank."""

    fixed: Tensor

    def __init__(self, options: ISWOptions, channels: Sequence[int]) -> None:
        """Start with no element selected.

        Args:
            options: Options of the loss.
            channels: Channels of the maps of the first stages, one number for each map.

        Raises:
            ValueError: The backbone is a plain ViT, which has no such maps.
        """
        super().__init__()
        if not channels:
            remedy = "choose a ResNet, ConvNeXt, Swin or EfficientNet-Lite, or set model.isw.enabled: false"
            raise ValueError(f"isw whitens the first stages of a hierarchy, and the backbone is a plain ViT: {remedy}")
        self.options = options
        self.masks = nn.ModuleList([SelectiveMask(width) for width in channels])
        self.register_buffer("fixed", torch.zeros((), dtype=torch.bool))
        self._fixed: bool | None = False  # what the host knows; after loading, it asks the device once
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_fixed", None))

    def forward(self, maps: Maps, image: Tensor, early: Callable[[Tensor], Maps], u: float, seed: Seed) -> Tensor:
        """Compute the loss of a step; during ``statistics``, first gather the variances.

        Args:
            maps: Maps of the first stages, each (B, C, h, w), with gradient.
            image: (B, 3, H, W) float RGB in [0, 1], the images of these maps.
            early: Computes these maps from images, in eval mode and without gradient.
            u: Share of training done, in [0, 1].
            seed: Non-negative integers that seed the photometric change, such as (seed, step).

        Returns:
            weight * L_isw, a scalar whose mean over ranks is its value on the global batch.

        Raises:
            ValueError: All of the first stages are frozen.
        """
        if not any(each.requires_grad for each in maps):
            raise ValueError("isw whitens stages that are frozen: lower model.segmenter.freeze_stages")
        start, end = self.options.statistics
        self._fixed = bool(self.fixed) if self._fixed is None else self._fixed
        gathering = u >= start and not self._fixed
        pairs = zip(early(image), early(photometric(image, seed)), strict=True) if gathering else ()
        parts = {str(index): style_variance(*pair) for index, pair in enumerate(pairs)}
        sums = sum_together(parts | {"images": torch.full((), float(len(image)), device=image.device)})
        for index in parts:
            mask = self.masks[int(index)]
            assert isinstance(mask, SelectiveMask)  # a ModuleList does not declare the type
            mask.variance += sums[index]
            mask.images += sums["images"]
            if u >= end:
                mask.select(self.options.clusters)
        if gathering:
            self._fixed = u >= end
            self.fixed.fill_(self._fixed)
        loss = torch.stack([mask(each) for mask, each in zip(self.masks, maps, strict=True)]).mean(dim=0)
        return self.options.weight * loss.sum() * world_size() / sums["images"]


def covariance(features: Tensor) -> Tensor:
    """Return the covariance of instance-standardised features: (B, C, h, w) -> (B, C, C), fp32, diagonal 1."""
    with torch.autocast(features.device.type, enabled=False):
        standardised = F.instance_norm(features.float()).flatten(2)
        return standardised @ standardised.transpose(1, 2) / standardised.shape[2]


def style_variance(plain: Tensor, changed: Tensor) -> Tensor:
    """Return the variance of each element of the covariance between an image and its counterpart, summed over images.

    Args:
        plain: (B, C, h, w), map of the images.
        changed: (B, C, h, w), map of their photometric counterparts.

    Returns:
        (C, C).
    """
    # The variance of two values is a quarter of their squared difference.
    return (covariance(plain) - covariance(changed)).square().sum(dim=0) / 4


@torch.no_grad()
def photometric(image: Tensor, seed: Seed) -> Tensor:
    """Change colours and blur as strongly as RobustNet does to measure style.

    The result depends only on the image and the seed. All images of a step change alike, so N ranks see what one rank
    sees, and a resumed run what an uninterrupted run sees.

    Args:
        image: (B, 3, H, W) float RGB in [0, 1].
        seed: Non-negative integers that fix the change, such as (seed, step).

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    brightness, contrast, saturation = rng.uniform(1 - STRENGTH, 1 + STRENGTH, 3)
    colours = brightness * turn_hue(rng.uniform(-TURN, TURN)) @ saturate(saturation)
    with torch.autocast(image.device.type, enabled=False):
        # a copy that does not wait for the device
        matrix = torch.from_numpy(np.vstack([colours, LUMA]).astype(np.float32)).to(image.device, non_blocking=True)
        changed, weights = torch.einsum("dc,bchw->bdhw", matrix[:3], image), matrix[3]
        luma = torch.einsum("c,bchw->bhw", weights, changed).mean(dim=(1, 2)).view(-1, 1, 1, 1)
        sigma = image.new_full(image.shape[:1], rng.uniform(0.15, 1.15))
        return gaussian_blur((luma + contrast * (changed - luma)).clamp(0, 1), sigma)


def k_means(values: Tensor, clusters: int) -> Tensor:
    """Cluster values by Lloyd's algorithm, started at evenly spaced quantiles: the result depends on the values alone.

    Args:
        values: (n,) floats, on the CPU.
        clusters: k, the number of clusters.

    Returns:
        (n,) int32, the index of the nearest centre; 0 is the lowest centre.
    """
    from scipy.cluster.vq import kmeans2

    found = values.numpy().astype(np.float64)
    centres = np.sort(found)[((np.arange(clusters) + 0.5) / clusters * len(found)).astype(int)]
    with warnings.catch_warnings(action="ignore"):  # a cluster without values keeps its centre
        return torch.from_numpy(kmeans2(found, centres, 1000, minit="matrix")[1])  # it converges far sooner
