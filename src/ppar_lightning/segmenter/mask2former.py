"""Mask2Former (arXiv 2112.01527), a head of queries, each of which predicts a class and a mask."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former import modeling_mask2former as parts

from ppar_lightning.segmenter.heads import resize

STRIDES = (4, 8, 16, 32)
"""Strides of the pyramid that it reads, in pixels."""


class Queries(NamedTuple):
    """What a layer of the decoder predicts."""

    classes: Tensor
    """(B, Q, K + 1), logits of the classes and, last, of "no object"."""
    masks: Tensor
    """(B, Q, h, w), logits of the masks, which cover the padded image."""

    def log_scores(self) -> Tensor:
        """Return the logarithm of the sum over queries of P(class) times P(mask), (B, K, h, w).

        Its largest class is that of the scores, and its softmax over classes their shares.
        """
        shares = self.classes.float().softmax(dim=-1)[..., :-1]
        scores = torch.einsum("bqk,bqhw->bkhw", shares, self.masks.float().sigmoid())
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log().to(self.masks.dtype)


class Mask2Former(parts.Mask2FormerPreTrainedModel):
    """The pixel decoder and the transformer of `Mask2FormerForUniversalSegmentation`, on maps instead of an encoder.

    The maps are resized to strides 4, 8, 16 and 32, as SoMA and Rein do with blocks of a plain ViT.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, stride: int) -> None:
        """Build the head with 100 queries, 6 layers of pixel decoder and 9 of decoder, as in the paper.

        Args:
            in_channels: Channels of four maps, fine to coarse. Where there are fewer, the first is read again.
            channels: Channels of pixel decoder, masks and queries, a multiple of 32.
            stride: Stride of the last map in pixels.
        """
        config = Mask2FormerConfig(feature_size=channels, mask_feature_size=channels, hidden_dim=channels)
        super().__init__(config)
        self.stride = stride
        self.pixel_decoder = parts.Mask2FormerPixelDecoder(config, four(in_channels))
        self.transformer = parts.Mask2FormerTransformerModule(channels, config)
        self.post_init()  # initialises the weights as the whole model does
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but the pixel decoder, which has no dropout and would look for inf on the host."""
        super().train(mode)
        self.pixel_decoder.eval()
        return self

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], Sequence[Tensor]]:
        """Decode maps of any strides.

        Returns:
            The embedding of pixels, (B, C, h, w) at stride 4; and of each layer the states of its queries, (B, Q, C),
            and the logits of their masks, (B, Q, h, w).
        """
        sizes = [[-(-side * self.stride // stride) for side in maps[-1].shape[2:]] for stride in STRIDES]
        pixels = self.pixel_decoder([resize(each, size) for each, size in zip(four(maps), sizes, strict=True)])
        found = self.transformer(pixels.multi_scale_features, pixels.mask_features, output_hidden_states=True)
        states = [each.transpose(0, 1) for each in found.intermediate_hidden_states]
        return pixels.mask_features, states, found.masks_queries_logits


def four(items: Sequence[Any]) -> list[Any]:
    """Return the items, the first of them repeated so that there are four."""
    return [*items[:1]] * (len(STRIDES) - len(items)) + [*items]
