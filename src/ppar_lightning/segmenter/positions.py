"""Position embeddings of plain ViTs, resized to the size of the image by two small products of matrices."""

import math
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ANTIALIASED = {"Dinov2Embeddings": False, "Dinov2WithRegistersEmbeddings": True, "CLIPVisionEmbeddings": False}
"""Modules of transformers that resize their position embeddings in every pass -> whether they smooth as they shrink."""


def resize_by_products(network: nn.Module) -> Any:
    """Let a network resize its position embeddings by products; return it. One without them stays as it is.

    Bicubic resizing is linear in rows and in columns. The two matrices are made once a size, and the products carry
    gradients. The bicubic kernel takes 11 % of a ViT-L's training step on a GPU.
    """
    for module in network.modules():
        if type(module).__name__ in ANTIALIASED:
            module.__dict__["interpolate_pos_encoding"] = MethodType(interpolate_pos_encoding, module)
    return network


def interpolate_pos_encoding(self: Any, embeddings: Tensor, height: int, width: int) -> Tensor:
    """Return (1, 1 + h w, C) embeddings of the class and the patches of an image, as the method of the class does."""
    kind = type(self).__name__
    table = self.position_embedding.weight[None] if kind.startswith("CLIP") else self.position_embeddings
    # An exported file resizes to any size; the meta device has no autocast.
    if torch.compiler.is_exporting() or torch.jit.is_tracing() or table.is_meta:
        return type(self).interpolate_pos_encoding(self, embeddings, height, width)
    side, channels = math.isqrt(table.shape[1] - 1), table.shape[2]
    grid = height // self.config.patch_size, width // self.config.patch_size
    if grid == (side, side):
        return table
    # A compiler or an estimate of memory has no values to keep.
    real = type(embeddings) is Tensor and not torch.compiler.is_compiling()
    matrix = _kept if real else bicubic
    rows, columns = (matrix(side, new, ANTIALIASED[kind], table.device) for new in grid)
    with torch.autocast(table.device.type, enabled=False):
        tall = (rows @ table[0, 1:].float().view(side, -1)).view(grid[0], side, channels)
        patches = columns.expand(grid[0], -1, -1).bmm(tall).view(1, -1, channels)
    return torch.cat([table[:, :1], patches.to(table.dtype)], dim=1)


def bicubic(old: int, new: int, antialias: bool, device: torch.device) -> Tensor:
    """Return the (new, old) float32 matrix that resizes a column of values as ``interpolate`` does."""
    unit = torch.eye(old, device=device)[None, None]
    return functional.interpolate(unit, (new, old), mode="bicubic", antialias=antialias)[0, 0]


@lru_cache(maxsize=256)
def _kept(old: int, new: int, antialias: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a training that follows can use it too
        return bicubic(old, new, antialias, device)
