"""Position embeddings of plain ViTs, resized to the size of the image by two small products of matrices."""

import math
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

RESIZING = {
    "Dinov2Embeddings": ("bicubic", False, 1),
    "Dinov2WithRegistersEmbeddings": ("bicubic", True, 1),
    "PixioEmbeddings": ("bicubic", False, 8),
    "Tipsv2VisionEmbeddings": ("bilinear", True, 1),
    "CLIPVisionEmbeddings": ("bicubic", False, 1),
    "MetaClip2VisionEmbeddings": ("bicubic", False, 1),
    "SiglipVisionEmbeddings": ("bicubic", False, 0),
}
"""Modules of transformers that resize their position embeddings in every pass -> how, whether they smooth as they
shrink, and the number of class tokens, which come first and keep their position."""


def resize_by_products(network: nn.Module) -> Any:
    """Let a network resize its position embeddings by products; return it. One without them stays as it is.

    Resizing is linear in rows and in columns. The two matrices are made once a size, and the products carry
    gradients. The bicubic kernel takes 11 % of a ViT-L's training step on a GPU.
    """
    for module in network.modules():
        if type(module).__name__ in RESIZING:
            module.__dict__["interpolate_pos_encoding"] = MethodType(interpolate_pos_encoding, module)
    return network


def interpolate_pos_encoding(self: Any, embeddings: Tensor, height: int, width: int) -> Tensor:
    """Return (1, n + h w, C) embeddings of the n class tokens and the patches, as the method of the class does."""
    mode, antialias, first = RESIZING[type(self).__name__]
    first = getattr(self, "n_cls_tokens", first)
    table = self.position_embedding.weight[None] if hasattr(self, "position_embedding") else self.position_embeddings
    # An exported file resizes to any size; the meta device has no autocast.
    if torch.compiler.is_exporting() or torch.jit.is_tracing() or table.is_meta:
        return type(self).interpolate_pos_encoding(self, embeddings, height, width)
    side, channels = math.isqrt(table.shape[1] - first), table.shape[2]
    grid = height // self.config.patch_size, width // self.config.patch_size
    if grid == (side, side):
        return table
    # A compiler or an estimate of memory has no values to keep.
    real = type(embeddings) is Tensor and not torch.compiler.is_compiling()
    matrix = _kept if real else resizing
    rows, columns = (matrix(side, new, mode, antialias, table.device) for new in grid)
    with torch.autocast(table.device.type, enabled=False):
        tall = (rows @ table[0, first:].float().view(side, -1)).view(grid[0], side, channels)
        patches = columns.expand(grid[0], -1, -1).bmm(tall).view(1, -1, channels)
    return torch.cat([table[:, :first], patches.to(table.dtype)], dim=1)


def resizing(old: int, new: int, mode: str, antialias: bool, device: torch.device) -> Tensor:
    """Return the (new, old) float32 matrix that resizes a column of values as ``interpolate`` does."""
    unit = torch.eye(old, device=device)[None, None]
    return functional.interpolate(unit, (new, old), mode=mode, antialias=antialias)[0, 0]


@lru_cache(maxsize=256)
def _kept(old: int, new: int, mode: str, antialias: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a training that follows can use it too
        return resizing(old, new, mode, antialias, device)
