"""Mask2Former (arXiv 2112.01527), a head of queries, each of which predicts a class and a mask."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former import modeling_mask2former as parts

from ppar_lightning.segmenter.heads import resize


class Queries(NamedTuple):
    """What L layers of the decoder predict."""

    classes: Tensor
    """(B, L, Q, K + 1), logits of the classes and, last, of "no object"."""
    masks: Tensor
    """(B, L, Q, h, w), logits of the masks, which cover the padded image."""

    def log_scores(self) -> Tensor:
        """Return the logarithm of the last layer's sum over queries of P(class) times P(mask), (B, K, h, w) float32.

        Its largest class is that of the scores, and its softmax over classes their shares.
        """
        shares, masks = self.classes[:, -1].float().softmax(dim=-1)[..., :-1], self.masks[:, -1].float().sigmoid()
        with torch.autocast(masks.device.type, enabled=False):  # 8 bits of a logarithm near -80 are steps of 0.5
            scores = torch.einsum("bqk,bqhw->bkhw", shares, masks)
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()


class Mask2Former(parts.Mask2FormerPreTrainedModel):
    """The pixel decoder and the transformer of `Mask2FormerForUniversalSegmentation`, on maps instead of an encoder.

    The maps are resized to strides 4, 8, 16 and 32, as SoMA and Rein do with blocks of a plain ViT.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, stride: int) -> None:
        """Build the head with 100 queries, 6 layers of pixel decoder and 9 of decoder, as in the paper.

        Args:
            in_channels: Channels of the maps, fine to coarse: four, or three where a ViT has no more blocks.
            channels: Channels of pixel decoder, masks and queries, a multiple of 32.
            stride: Stride of the last map in pixels.
        """
        config = Mask2FormerConfig(feature_size=channels, mask_feature_size=channels, hidden_dim=channels)
        super().__init__(config)
        self.stride = stride
        self.pixel_decoder = parts.Mask2FormerPixelDecoder(config, in_channels)
        self.transformer = parts.Mask2FormerTransformerModule(channels, config)
        self.post_init()  # initialises the weights as the whole model does
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but the pixel decoder, which has no dropout and would look for inf on the host."""
        super().train(mode).pixel_decoder.eval()
        return self

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Decode maps of any strides.

        Returns:
            The embedding of pixels, (B, C, h, w) at stride 4; and of the L layers the states of the queries,
            (B, L, Q, C), and the logits of their masks, (B, L, Q, h, w).

        Raises:
            ValueError: It is trained on CUDA by deterministic algorithms alone; the gradient of `grid_sample` has none.
        """
        if self.training and maps[-1].is_cuda and torch.get_deterministic_debug_mode() == 2:
            raise ValueError("mask2former has no deterministic gradient on CUDA: set --trainer.deterministic warn")
        sizes = [[-(-side * self.stride // stride) for side in maps[-1].shape[2:]] for stride in (4, 8, 16, 32)]
        pixels = self.pixel_decoder([resize(each, size) for each, size in zip(maps, sizes, strict=False)])
        found = self.transformer(pixels.multi_scale_features, pixels.mask_features, output_hidden_states=True)
        states = torch.stack(found.intermediate_hidden_states).permute(2, 0, 1, 3)
        return pixels.mask_features, states, torch.stack(found.masks_queries_logits, dim=1)
