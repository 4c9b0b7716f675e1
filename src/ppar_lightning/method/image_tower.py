"""The image tower of a CLIP, in as few operations as the embeddings of an image and its patches need."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppar_lightning.segmenter.pretrained import Colour


class ImageTower(nn.Module):
    """The weights of an image tower, with everything that is fixed computed once.

    Patch embedding, positions and their sum are in float32, all that follows in the tower's precision.
    """

    def __init__(self, tower: Any, mean: Colour, std: Colour) -> None:
        """Take over the weights of a tower.

        Args:
            tower: A ``CLIPVisionModelWithProjection``, that of MetaCLIP 2 or a ``SiglipVisionModel``, without gradient,
                which cannot be used any more.
            mean: Mean of RGB in [0, 1] that the tower was trained with.
            std: Standard deviation.
        """
        super().__init__()
        vision = getattr(tower, "vision_model", tower)
        self.embeddings = vision.embeddings
        blocks = [TowerBlock(layer) for layer in vision.encoder.layers]
        if hasattr(vision, "head"):
            self.blocks = nn.Sequential(*blocks, vision.post_layernorm, Pooling(vision.head))
        else:
            blocks[-1].is_last = True
            self.blocks = nn.Sequential(vision.pre_layrnorm, *blocks, vision.post_layernorm, tower.visual_projection)
        shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        patches = self.embeddings.patch_embedding
        patches.weight.div_(scale)  # of (image - mean) / std
        bias = -(patches.weight * shift).sum(dim=(1, 2, 3)) + (0 if patches.bias is None else patches.bias)
        patches.bias = nn.Parameter(bias, requires_grad=False)
        self.move(tower.device, torch.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Share the weights, which never change, with a copy of the network, such as the average of `model.ema`."""
        return self

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device, and compute in a precision there."""
        self.to(device).blocks.to(dtype)
        self.place = device, dtype
        self._positions: dict[tuple[int, int], Tensor] = {}

    def forward(self, image: Tensor) -> Tensor:
        """Embed images.

        Args:
            image: (B, 3, H, W) float RGB in [0, 1], sides multiples of the patch size.

        Returns:
            (B, 1 + N, D), in the tower's precision: the image's embedding and those of its N patches.
        """
        tokens = self.embeddings.patch_embedding(image).flatten(2).transpose(1, 2)
        if hasattr(self.embeddings, "class_embedding"):
            tokens = torch.cat([self.embeddings.class_embedding.expand(len(image), 1, -1), tokens], dim=1)
        size = (image.shape[-2], image.shape[-1])
        if size not in self._positions:  # all are kept, since a recording may read them
            self._positions[size] = self.embeddings.interpolate_pos_encoding(tokens, *size)
        return self.blocks((tokens + self._positions[size]).to(self.place[1]))


class Pooling(nn.Module):
    """SigLIP's attention pooling: of all patches for the image, and of each patch alone, and so its content."""

    def __init__(self, head: Any) -> None:
        """Take over a ``SiglipMultiheadAttentionPoolingHead``."""
        super().__init__()
        self.head = head

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, C) to (B, 1 + N, C)."""
        attention = self.head.attention
        pooled = attention(self.head.probe.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)[0]
        weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
        mixed = torch.cat([pooled, attention.out_proj(F.linear(tokens, weight, bias))], dim=1)
        return mixed + self.head.mlp(self.head.layernorm(mixed))


class TowerBlock(nn.Module):
    """One block, in ten operations."""

    is_last = False
    """In the last block only the image's token attends to all. A patch attends to itself and so keeps its own content,
    the dense feature of MaskCLIP (Zhou et al. 2022, arXiv 2112.01071); MLP and final norm follow as usual."""

    def __init__(self, layer: Any) -> None:
        """Take over the weights of a ``CLIPEncoderLayer``, ``MetaClip2EncoderLayer`` or ``SiglipEncoderLayer``."""
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.heads = attention.num_heads
        self.norm1, self.norm2 = layer.layer_norm1, layer.layer_norm2
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = attention.q_proj
        for name in ("weight", "bias"):
            setattr(self.qkv, name, nn.Parameter(torch.cat([getattr(part, name) for part in parts]), False))
        self.out = attention.out_proj
        self.mlp = nn.Sequential(mlp.fc1, mlp.activation_fn, mlp.fc2)
        if mlp.config.hidden_act == "quick_gelu":  # x sigmoid(c x) = silu(c x) / c
            for tensor, factor in ((mlp.fc1.weight, 1.702), (mlp.fc1.bias, 1.702), (mlp.fc2.weight, 1 / 1.702)):
                tensor.mul_(factor)
            self.mlp[1] = nn.SiLU()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, 1 + N, C) to the same shape."""
        q, k, v = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q[:, :, :1] if self.is_last else q, k, v)
        if self.is_last:
            mixed = torch.cat([mixed, v[:, :, 1:]], dim=2)
        tokens = tokens + self.out(mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.norm2(tokens))
