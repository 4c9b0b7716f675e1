"""Image towers of models that pair images with texts, as backbones: CLIP's, MetaCLIP 2's, SigLIP's and SigLIP 2's."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionModel, MetaClip2VisionModel, SiglipVisionModel
from transformers.modeling_outputs import BackboneOutput

TOWERS: dict[str, Any] = {
    "clip_vision_model": CLIPVisionModel,
    "metaclip_2_vision_model": MetaClip2VisionModel,
    "siglip_vision_model": SiglipVisionModel,
}
"""Type of an image tower -> its class."""


class Tower(nn.Module):
    """An image tower as a backbone: the patch tokens of chosen blocks as feature maps, each through the last norm.

    The blocks after the last one that is asked for are not run.
    """

    def __init__(self, tower: Any, stages: Sequence[int]) -> None:
        """Take over a tower.

        Args:
            tower: A network of one of the classes in `TOWERS`.
            stages: Blocks whose maps are returned, in their order: 1 is the first, -1 the last.
        """
        super().__init__()
        self.tower = tower
        self.class_tokens = int(hasattr(tower.embeddings, "class_embedding"))  # SigLIP has none
        self.stages = sorted({stage % (len(tower.encoder.layers) + 1) for stage in stages})

    def forward(self, image: Tensor) -> BackboneOutput:
        """Map (B, 3, H, W), sides multiples of the patch size, to maps (B, C, H / patch, W / patch)."""
        height, width = (side // self.tower.config.patch_size for side in image.shape[2:])
        tokens = self.tower.embeddings(image, interpolate_pos_encoding=True)
        if hasattr(self.tower, "pre_layrnorm"):
            tokens = self.tower.pre_layrnorm(tokens)
        maps = []
        for number, block in enumerate(self.tower.encoder.layers[: self.stages[-1]], start=1):
            tokens = block(tokens, None)
            if number in self.stages:
                patches = self.tower.post_layernorm(tokens)[:, self.class_tokens :]
                maps.append(patches.transpose(1, 2).unflatten(2, (height, width)))
        return BackboneOutput(feature_maps=tuple(maps))
