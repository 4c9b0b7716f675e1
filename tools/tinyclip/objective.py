"""The tiny CLIP's losses: captions against images, and class names against image patches."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel


def embed_images(model: CLIPModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Embed images of any size.

    Args:
        model: The CLIP.
        pixels: (B, 3, H, W), normalised.

    Returns:
        (B, D) of the images and (B, N, D) of their N patches by `value_path`, both of unit length.
    """
    tower = model.vision_model
    output = tower(pixel_values=pixels, interpolate_pos_encoding=True, output_hidden_states=True)
    dense = model.visual_projection(value_path(tower, output.hidden_states[-2][:, 1:]))
    return F.normalize(model.visual_projection(output.pooler_output).float(), dim=-1), F.normalize(
        dense.float(), dim=-1
    )


def value_path(tower: Any, hidden: Tensor) -> Tensor:
    """Run the last block so that each position attends only to itself: a patch then keeps its own content.

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


def embed_tokens(model: CLIPModel, tokens: dict[str, Tensor]) -> Tensor:
    """Embed tokenised sentences as unit vectors, (B, D)."""
    return F.normalize(model.text_projection(model.text_model(**tokens).pooler_output).float(), dim=-1)


def contrastive_loss(image: Tensor, text: Tensor, facts: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy whose target is spread over captions with the same meaning.

    Args:
        image: (B, D) unit vectors.
        text: (B, D) unit vectors of their captions.
        facts: (B, A), 1 for each class or condition that a caption states. The target of a pair is the fourth power of
            the cosine of its facts, so captions that share some facts count little and equal ones count fully.
        scale: Factor of the cosines.
    """
    logits = scale * image @ text.T
    facts = F.normalize(facts, dim=-1)
    target = (facts @ facts.T) ** 4
    rows = F.cross_entropy(logits, target / target.sum(dim=1, keepdim=True))
    columns = F.cross_entropy(logits.T, target.T / target.T.sum(dim=1, keepdim=True))
    return (rows + columns) / 2


def named_loss(dense: Tensor, names: Tensor, shares: Tensor, minimum: float, scale: Tensor) -> Tensor:
    """Loss of two rules: each patch belongs to a class that the picture shows, and each shown class has a patch.

    Args:
        dense: (B, N, D) unit vectors of patches.
        names: (K, D) unit vectors of one sentence per class.
        shares: (B, K), share of each class in the picture; only zero, some and enough (``minimum``) are distinguished.
        minimum: Share from which a class must have a patch.
        scale: Factor of the cosines.
    """
    log_p = (scale * dense @ names.T).log_softmax(dim=-1)
    shown = shares > 0
    among = log_p.masked_fill(~shown[:, None], -torch.inf).logsumexp(dim=-1)
    best = log_p.topk(min(2, dense.shape[1]), dim=1).values.mean(dim=1)
    wanted = (shares >= minimum).float()
    return -among.mean() - (best * wanted).sum() / wanted.sum().clamp_min(1)
