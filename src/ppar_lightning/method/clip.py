"""CLIP's two towers: the text tower embeds sentences once, the image tower gives visual context at every step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from ppar_lightning.method.grid import Grid, resize
from ppar_lightning.segmenter.pretrained import load_pretrained, load_weights, normalisation

TEXT_BATCH = 256
"""Number of sentences that the text tower embeds at once."""


class VisualContext(NamedTuple):
    """What CLIP sees in a batch of images, in its joint space."""

    image: Tensor
    """(B, D): the image's embedding."""
    dense: Tensor
    """(B, N, D): an embedding of each patch, row by row."""
    grid: Grid
    """Cells of the N patches."""

    @property
    def memory(self) -> Tensor:
        """V = [v_global; v_1..v_N], (B, 1 + N, D)."""
        return torch.cat([self.image.unsqueeze(1), self.dense], dim=1)


@torch.no_grad()
def embed_texts(clip: str, texts: Sequence[str]) -> Tensor:
    """Embed sentences with CLIP's text tower. The tower is not kept.

    Args:
        clip: ``tinyclip``, a hub id or a folder.
        texts: T sentences.

    Returns:
        (T, D) unit vectors.

    Raises:
        OSError: The model is not there, is damaged or has no tokenizer.
    """
    words = clip_config(clip).text_config.vocab_size
    tokenizer = load_pretrained(AutoTokenizer, clip)
    # Without a tokenizer's files, transformers makes one that knows no words, and every sentence would be the same.
    if len(tokenizer) < words / 2:
        raise OSError(f"model {clip!r} holds no tokenizer: copy its tokenizer's files there")
    tower = _load_tower(CLIPTextModelWithProjection, clip, "text_config")
    parts = (list(texts[start : start + TEXT_BATCH]) for start in range(0, len(texts), TEXT_BATCH))
    embedded = [tower(**tokenizer(part, padding=True, return_tensors="pt")).text_embeds for part in parts]
    return F.normalize(torch.cat(embedded), dim=-1)


class FrozenImageTower(nn.Module):
    """CLIP's image tower, frozen and without gradient.

    The tower is not registered as a submodule, so its weights enter neither checkpoint nor optimiser nor distributed
    broadcasts, and it stays in eval mode.
    """

    tower: CLIPVisionModelWithProjection
    mean: Tensor
    std: Tensor

    def __init__(self, clip: str, size: int | None, dtype: torch.dtype | None = None) -> None:
        """Load the tower.

        Args:
            clip: ``tinyclip``, a hub id or a folder.
            size: Side of the square whose area the input is resized to, in pixels; None keeps the images' size.
            dtype: Precision of its weights and computations; None follows the device of the images: bfloat16 on CUDA,
                float32 elsewhere.
        """
        super().__init__()
        tower = _load_tower(CLIPVisionModelWithProjection, clip, "vision_config")
        self.__dict__["tower"] = tower  # an attribute that torch does not register
        self.dtype = dtype
        self.size = size
        self.patch = int(tower.config.patch_size)
        self.dim = int(tower.config.projection_dim)
        mean, std = normalisation(clip)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that images are resized to: their aspect ratio, the wanted area, whole patches."""
        scale = 1.0 if self.size is None else self.size / (height * width) ** 0.5
        rows, columns = (max(1, round(side * scale / self.patch)) for side in (height, width))
        return rows * self.patch, columns * self.patch

    @torch.no_grad()
    def forward(self, image: Tensor) -> VisualContext:
        """Embed a batch of images.

        Args:
            image: (B, 3, H, W) float RGB in [0, 1].
        """
        dtype = self.dtype or (torch.bfloat16 if image.is_cuda else torch.float32)
        if (self.tower.device, self.tower.dtype) != (image.device, dtype):  # it is no submodule, so it stays behind
            self.tower.to(image.device, dtype)  # type: ignore[arg-type]
        size = self.input_size(image.shape[-2], image.shape[-1])
        with torch.autocast(image.device.type, enabled=False):
            pixels = (resize(image, size) - self.mean) / self.std
        output = self.tower(
            pixel_values=pixels.to(self.tower.dtype), interpolate_pos_encoding=True, output_hidden_states=True
        )
        dense = self.tower.visual_projection(value_path(self.tower.vision_model, output.hidden_states[-2][:, 1:]))
        patches = (size[0] // self.patch, size[1] // self.patch)
        return VisualContext(output.image_embeds, dense, Grid.over(patches, (image.shape[-2], image.shape[-1])))


def value_path(tower: Any, hidden: Tensor) -> Tensor:
    """Run the last block so that each position attends only to itself: a patch then keeps its own content.

    This is the dense feature of MaskCLIP (Zhou et al. 2022, arXiv 2112.01071): the value and output projections replace
    the attention; the block's MLP and the final norm follow as usual. The caller projects it into the joint space.

    Args:
        tower: The ``vision_model`` of a CLIP.
        hidden: (B, N, C), input of the last block.

    Returns:
        (B, N, C).
    """
    block = tower.encoder.layers[-1]
    attention = block.self_attn
    hidden = hidden + attention.out_proj(attention.v_proj(block.layer_norm1(hidden)))
    return tower.post_layernorm(hidden + block.mlp(block.layer_norm2(hidden)))


def clip_config(clip: str) -> Any:
    """Read the config of a CLIP.

    Raises:
        ValueError: The model is no CLIP.
    """
    config = load_pretrained(AutoConfig, clip)
    if config.model_type != "clip":
        remedy = "name a whole CLIP as ppar.clip, such as openai/clip-vit-base-patch16"
        raise ValueError(f"model {clip!r} is a {config.model_type!r}, not a CLIP with two towers: {remedy}")
    return config


def _load_tower(loader: Any, clip: str, part: str) -> Any:
    """Load one tower of a CLIP in fp32, frozen, with the projection width of the whole model."""
    config = clip_config(clip)
    tower_config = getattr(config, part)
    tower_config.projection_dim = config.projection_dim
    return load_weights(loader, clip, tower_config).eval().requires_grad_(False)
