"""The two towers of a CLIP, MetaCLIP 2, SigLIP or SigLIP 2, all called a CLIP here.

The text tower embeds sentences once, the image tower gives visual context in training. SigLIP's scores have a bias, the
same for all classes, which no comparison of classes needs.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoTokenizer,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    MetaClip2TextModelWithProjection,
    MetaClip2VisionModelWithProjection,
    SiglipTextModel,
    SiglipVisionModel,
)

from ppar_lightning.method.cuda_graph import CudaGraph
from ppar_lightning.method.grid import Grid, resize
from ppar_lightning.method.image_tower import ImageTower
from ppar_lightning.segmenter.pretrained import load_pretrained, load_weights, normalisation

TOWERS: dict[str, tuple[Any, Any]] = {
    "clip": (CLIPTextModelWithProjection, CLIPVisionModelWithProjection),
    "metaclip_2": (MetaClip2TextModelWithProjection, MetaClip2VisionModelWithProjection),
    "siglip": (SiglipTextModel, SiglipVisionModel),
}
"""Type of a model -> the classes of its text and its image tower; SigLIP 2 has SigLIP's, except NaFlex."""

TEXT_BATCH = 256
"""Number of sentences that the text tower embeds at once."""

GRAPHS = 4
"""Number of shapes of input for which the image tower is recorded as a CUDA graph; it runs others eagerly."""


class VisualContext(NamedTuple):
    """What CLIP sees in a batch of images, in its joint space."""

    memory: Tensor
    """(B, 1 + N, D): V = [v_global; v_1..v_N], the embeddings of the image and of each patch, row by row."""
    grid: Grid
    """Cells of the N patches."""

    @property
    def dense(self) -> Tensor:
        """(B, N, D)."""
        return self.memory[:, 1:]


@torch.no_grad()
def embed_texts(clip: str, texts: Sequence[str]) -> Tensor:
    """Embed sentences with CLIP's text tower. The tower is not kept. SigLIP reads lower case, padded at the end.

    Args:
        clip: ``tinyclip``, a hub id or a folder.
        texts: T sentences.

    Returns:
        (T, D) unit vectors.

    Raises:
        OSError: The model is not there, is damaged or has no tokenizer.
    """
    config = clip_config(clip)
    words = config.text_config.vocab_size
    tokenizer = load_pretrained(AutoTokenizer, clip)
    # Without a tokenizer's files, transformers makes one that knows no words, and every sentence would be the same.
    if len(tokenizer) < words / 2:
        raise OSError(f"model {clip!r} holds no tokenizer: copy its tokenizer's files there")
    tower = _load_tower(clip, 0)
    padding: dict[str, Any] = {"padding": True}
    if sigmoid := config.model_type == "siglip":
        length, texts = config.text_config.max_position_embeddings, [text.lower() for text in texts]
        padding = {"padding": "max_length", "max_length": length, "padding_side": "right"}
    embedded = []
    for start in range(0, len(texts), TEXT_BATCH):
        tokens = tokenizer(list(texts[start : start + TEXT_BATCH]), return_tensors="pt", **padding)
        embedded.append(tower(tokens.input_ids).pooler_output if sigmoid else tower(**tokens).text_embeds)
    return F.normalize(torch.cat(embedded), dim=-1)


class FrozenImageTower(nn.Module):
    """CLIP's image tower, frozen and without gradient.

    The tower is not registered as a submodule, so its weights enter neither checkpoint nor optimiser nor distributed
    broadcasts, and it stays in eval mode.

    Attributes:
        path: How the last forward pass ran: ``graph`` (a CUDA graph) or ``eager``; None before the first.
    """

    tower: ImageTower

    def __init__(self, clip: str, size: int | None, dtype: torch.dtype | None = None, graph: bool = True) -> None:
        """Load the tower.

        Args:
            clip: ``tinyclip``, a hub id or a folder.
            size: Side of the square whose area the input is resized to, in pixels; None keeps the images' size.
            dtype: Precision of its weights and computations; None follows the device of the images: bfloat16 on CUDA,
                float32 elsewhere.
            graph: On CUDA, record a CUDA graph for each of the first GRAPHS shapes of input, and run that.
        """
        super().__init__()
        tower = _load_tower(clip, 1)
        self.patch, self.dim = int(tower.config.patch_size), joint_width(clip)
        self.__dict__["tower"] = ImageTower(tower, *normalisation(clip))  # an attribute that torch does not register
        self.size, self.dtype, self.graph = size, dtype, graph
        self.path: Literal["graph", "eager"] | None = None
        self._graphs: dict[torch.Size, CudaGraph] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recordings out of a copy: they read the weights of this tower."""
        return super().__getstate__() | {"_graphs": {}}

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
        place = (image.device, self.dtype or (torch.bfloat16 if image.is_cuda else torch.float32))
        if self.tower.place != place:  # it is no submodule, so it stays behind
            self._graphs.clear()
            self.tower.move(*place)
        size = self.input_size(image.shape[-2], image.shape[-1])
        with torch.autocast(image.device.type, enabled=False):
            memory = self._run(resize(image.float(), size)).float()
        patches = (size[0] // self.patch, size[1] // self.patch)
        return VisualContext(memory, Grid.over(patches, (image.shape[-2], image.shape[-1])))

    def _run(self, pixels: Tensor) -> Tensor:
        """Replay the recording for these pixels' shape, which is made the first time; run the tower if there is none.

        A recording is not made elsewhere than on CUDA, and no longer after one has failed.
        """
        if self.graph and pixels.is_cuda and len(self._graphs) < GRAPHS and pixels.shape not in self._graphs:
            try:
                self._graphs[pixels.shape] = CudaGraph(self.tower, pixels)
            except RuntimeError as error:
                self.graph, fault = False, str(error).partition("\n")[0]
                warnings.warn(f"CLIP's image tower runs without a CUDA graph, which failed: {fault}", stacklevel=2)
        run = self._graphs.get(pixels.shape)
        self.path = "eager" if run is None else "graph"
        return self.tower(pixels) if run is None else run(pixels)


def clip_config(clip: str) -> Any:
    """Read the config of a CLIP.

    Raises:
        ValueError: The model is no CLIP.
    """
    config = load_pretrained(AutoConfig, clip)
    if config.model_type not in TOWERS:
        remedy = "name a whole CLIP as ppar.clip, such as openai/clip-vit-base-patch16"
        raise ValueError(f"model {clip!r} is a {config.model_type!r}, not a CLIP with two towers: {remedy}")
    return config


def joint_width(clip: str) -> int:
    """Return D, the width of the space that a CLIP embeds texts and images in."""
    config = clip_config(clip)
    return int(getattr(config, "projection_dim", config.vision_config.hidden_size))


def _load_tower(clip: str, index: int) -> Any:
    """Load the text tower (0) or the image tower (1) in fp32, frozen, with the projection width of the whole model."""
    config = clip_config(clip)
    tower_config = (config.text_config, config.vision_config)[index]
    if hasattr(config, "projection_dim"):
        tower_config.projection_dim = config.projection_dim
    return load_weights(TOWERS[config.model_type][index], clip, tower_config).eval().requires_grad_(False)
