"""The network: a backbone, a decoder, a classifier. It knows nothing about how it is trained.

segmenter = Segmenter("microsoft/resnet-50", head="deeplabv3plus")
label = segmenter(image).argmax(1)  # image (B, 3, H, W) in [0, 1], any size
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ppar_lightning.images.classes import Classes, class_list
from ppar_lightning.images.window import Window
from ppar_lightning.segmenter.adapter import AdapterOptions, inject, merged
from ppar_lightning.segmenter.backbones import Backbone, depth_of, read_config
from ppar_lightning.segmenter.heads import FCN, FPN, Concat, DeepLabV3Plus, Pyramid, resize
from ppar_lightning.segmenter.inference import infer
from ppar_lightning.segmenter.inputs import Picture, to_image
from ppar_lightning.segmenter.mask2former import Mask2Former, Queries

ABOUT: dict[str, Any] = {
    "library_name": "ppar-lightning",
    "license": "apache-2.0",
    "pipeline_tag": "image-segmentation",
    "paper_url": "https://arxiv.org/abs/2507.11955",
    "tags": ["semantic-segmentation", "domain-generalization"],
}
"""Metadata that huggingface_hub writes at the top of a card."""

CARD = Path(__file__).with_name("card.md").read_text()
"""Template of a card; `training_summary` is Markdown, and `predicts` names the classes."""


class SegmenterOutput(NamedTuple):
    """Logits and the feature maps that training may use, of the image padded at the bottom and right."""

    coarse: Tensor
    """(B, K, h, w), logits at the size of the decoder's map."""
    decoder: Tensor
    """(B, C_d, h, w), the input of the classifier, before dropout: stride 4, or near it by the patch of a plain ViT."""
    size: tuple[int, int]
    """(H, W) of the image."""
    covered: tuple[int, int]
    """(H', W') of the padded image, multiples of the stride."""
    backbone: Tensor | None = None
    """(B, C_b, h', w'), the backbone's last map, at its stride."""
    auxiliary: Tensor | None = None
    """(B, K, h', w'), logits of the auxiliary head; None in eval mode or without such a head."""
    early: tuple[Tensor, ...] = ()
    """(B, C, h, w) each, the maps of the backbone's first stages; empty for a plain ViT."""
    queries: Queries | None = None
    """Those of ``mask2former``, for its loss; ``coarse`` then holds logarithms of scores."""

    @property
    def logits(self) -> Tensor:
        """(B, K, H, W), at the size of the image."""
        coarse = self.coarse.exp() if self.queries else self.coarse  # scores are resized, not their logarithms
        found = resize(coarse, self.covered)[..., : self.size[0], : self.size[1]]
        return found.log() if self.queries else found


@final
class Segmenter(nn.Module, PyTorchModelHubMixin, model_card_template=CARD, **ABOUT):
    """Semantic segmentation network on a pretrained backbone.

    ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` come from huggingface_hub: they write the weights as
    safetensors and a ``config.json`` from which the network can be rebuilt even without access to its backbone by name.

    Attributes:
        backbone: The pretrained part; with ``freeze_stages``, some of its parameters have no gradient.
        classes: The K classes that it predicts.
        num_classes: K.
        per_pixel: Whether the classifier reads each pixel of the decoder's map, as it does unless it reads queries.
        description: Arguments that rebuild this network without its weights; the backbone's name is only a label then.
        decoder_channels: C_d of ``SegmenterOutput.decoder``.
        backbone_channels: C_b of ``SegmenterOutput.backbone``.
        early_channels: Channels of the maps in ``SegmenterOutput.early``.
        referable: Whether the frozen weights of the backbone are still those that its name gives.
        training_summary: Markdown for the model card about training and scores; ``load_segmenter`` fills it in.
    """

    def __init__(
        self,
        backbone: str = "tinyclip",
        head: Literal["deeplabv3plus", "fpn", "pyramid", "concat", "mask2former"] | None = None,
        classes: Classes = "cityscapes19",
        pretrained: bool = True,
        freeze_stages: int = 0,
        output_stride: Literal[8, 16, 32] | None = None,
        decoder_channels: int = 256,
        auxiliary: bool = True,
        early_stages: Literal[1, 2] = 1,
        adapter: AdapterOptions = AdapterOptions(),  # noqa: B008
        backbone_config: dict[str, Any] | None = None,
        patch: int | None = None,
    ) -> None:
        """Build the network.

        Args:
            backbone: ``tinyclip``, a hub id or a folder: a backbone of transformers, a CLIP, MetaCLIP 2 or SigLIP.
            head: ``deeplabv3plus`` or ``fpn`` for hierarchies, ``concat`` (four blocks) or ``pyramid`` (the last) for
                plain ViTs, ``mask2former`` for both. None takes the first that suits; ``description`` names it.
            classes: The K classes: the name of a list of the package, a YAML file, or the list itself.
            pretrained: Load the backbone's weights; False reads only its config and initialises it at random.
            freeze_stages: Freeze the stem and this many stages (blocks of a plain ViT), norms in eval mode; 0: nothing.
            output_stride: Stride of the last map. A ResNet is dilated to it (None: 16); other networks keep their own.
            decoder_channels: C_d, the channels of the head.
            auxiliary: Train an FCN head on the last stage but one, as a second loss, with ``deeplabv3plus`` alone.
            early_stages: Number of first stages whose maps are in ``SegmenterOutput.early``, for a loss that uses them.
            adapter: Adapters of a ViT, Swin or ConvNeXt, which is otherwise frozen; or a dictionary of their options.
            backbone_config: Config to build the backbone from, instead of reading it by name; see ``description``.
            patch: Side in pixels that a plain ViT's patch kernel is resized to, as DINOv2's of 14 to 16; None: its own.

        Raises:
            ImportError: peft is not installed.
            OSError: The backbone is neither on this machine nor can it be downloaded.
            ValueError: The head or an option does not suit the backbone.
        """
        given: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        known = read_config(backbone, backbone_config)
        head = head or ("deeplabv3plus" if hasattr(known, "depths") else "concat")
        auxiliary = auxiliary and head == "deeplabv3plus"
        stages, shown = choose_stages(head, depth_of(known), early_stages, auxiliary)
        options = freeze_stages, output_stride, backbone_config, shown, patch
        self.backbone = Backbone(backbone, stages, pretrained, *options)
        channels, self.head = self.backbone.channels, build_head(head, backbone, self.backbone, decoder_channels)
        self.classes = class_list(classes)
        self.num_classes = number = len(self.classes)
        self.dropout = nn.Dropout2d(0.1 if head == "concat" else 0.0)
        self.per_pixel = dense = head != "mask2former"
        self.classifier = nn.Conv2d(decoder_channels, number, 1) if dense else nn.Linear(decoder_channels, number + 1)
        self.auxiliary = FCN(channels[-2], decoder_channels, number) if auxiliary else None
        self.decoder_channels, self.backbone_channels = decoder_channels, channels[-1]
        self.early_channels = () if self.backbone.plain else tuple(channels[:early_stages])
        self.training_summary: str | None = None
        self.adapter = AdapterOptions(**adapter) if isinstance(adapter, dict) else adapter
        named = pretrained and backbone_config is None
        self.referable = inject(self.backbone, self.adapter, named)
        built = {"head": head, "classes": self.classes.entries(), "backbone_config": self.backbone.config}
        self.description = given | {"pretrained": False, "adapter": asdict(self.adapter)} | built

    def save_pretrained(self, save_directory: str | Path, *, config: Any = None, **options: Any) -> str | None:
        """Save weights, ``config.json`` (None: ``description``) and model card as huggingface_hub does.

        Adapters are merged into the weights, so that what is saved has none.
        """
        plain = self.description | {"adapter": asdict(AdapterOptions())}
        return super().save_pretrained(save_directory, config=config or plain, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        state = merged(self.state_dict(), self.adapter)
        save_file({name: each.contiguous() for name, each in state.items()}, save_directory / "model.safetensors")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Write the model card of ``save_pretrained`` and ``push_to_hub``, with the training summary if it is known."""
        predicts = f"{self.num_classes} classes: {', '.join(f'`{name}`' for name in self.classes)}"
        content = {"training_summary": self.training_summary, "predicts": predicts} | kwargs
        return super().generate_model_card(*args, **content)

    @torch.no_grad()
    def predict(self, picture: Picture, window: Window | None = None) -> Tensor:
        """Segment one picture of any size, in eval mode, which leaves batch norm statistics as they are.

        Args:
            picture: A file, PIL image, array or tensor, see `ppar_lightning.segmenter.inputs.Picture`.
            window: Size and stride of a sliding window, in pixels; None segments the whole picture at once.

        Returns:
            (H, W) uint8 tensor of train ids on the CPU.

        Raises:
            ValueError: ``picture`` is not a picture.
        """
        image = to_image(picture).to(self.backbone.mean.device).unsqueeze(0)
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            logits = infer(self, image, None if window is None else (window.size, window.stride), (), self.per_pixel)
        finally:
            for module, mode in modes.items():
                module.training = mode
        return logits.float().argmax(dim=1)[0].byte().cpu()

    def forward(self, image: Tensor) -> Tensor:
        """Segment RGB images (B, 3, H, W) in [0, 1], of any size, into logits (B, K, H, W)."""
        return self.outputs(image).logits

    def outputs(self, image: Tensor) -> SegmenterOutput:
        """Segment RGB images (B, 3, H, W) in [0, 1] and also return the feature maps."""
        padded = self._pad(image)
        maps = self.backbone(padded)
        size, covered = ((each.shape[2], each.shape[3]) for each in (image, padded))
        auxiliary = self.auxiliary(maps[-2]) if self.auxiliary is not None and self.training else None
        early = maps[: len(self.early_channels)]
        if self.per_pixel:
            decoder = self.head(maps)
            coarse = self.classifier(self.dropout(decoder))
            return SegmenterOutput(coarse, decoder, size, covered, maps[-1], auxiliary, early)
        decoder, states, masks = self.head(maps)
        queries = Queries(self.classifier(states), masks)
        return SegmenterOutput(queries.log_scores(), decoder, size, covered, maps[-1], None, early, queries)

    @torch.no_grad()
    def early(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return only ``SegmenterOutput.early``. The pass runs in eval mode, so it changes no batch norm statistics."""
        training = self.backbone.training
        self.backbone.eval()
        maps = self.backbone(self._pad(image))
        self.backbone.train(training)
        return maps[: len(self.early_channels)]

    def _pad(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        stride = self.backbone.stride
        return functional.pad(image, (0, -width % stride, 0, -height % stride), mode="replicate")


def choose_stages(head: str, depth: int, early: int, auxiliary: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose the stages whose maps the backbone gives.

    Args:
        head: Name of the head.
        depth: Number of stages of a hierarchy, or of blocks of a plain ViT.
        early: Number of first stages for a loss that uses them.
        auxiliary: Whether an auxiliary head reads the last but one.

    Returns:
        The stages, for most heads those at 1/4, 1/2, 3/4 and the whole of the depth; and those that no head reads.
    """
    if head == "deeplabv3plus":
        return (*range(1, early + 1), *((-2, -1) if auxiliary else (-1,))), (2,)[: early - 1]
    return ((-1,) if head == "pyramid" else tuple(sorted({-(-depth * part // 4) for part in (1, 2, 3, 4)}))), ()


def build_head(kind: str, name: str, backbone: Backbone, channels: int) -> nn.Module:
    """Build the head of a segmenter.

    Args:
        kind: Name of the head.
        name: Name of the backbone.
        backbone: The backbone, which gives the maps that the head reads.
        channels: Channels of the head.

    Raises:
        ValueError: The head does not suit the backbone, or the channels do not suit the head.
    """
    if kind == "mask2former" and channels % 32:
        raise ValueError(f"mask2former takes 32, 64, ...: set --model.segmenter.decoder_channels {channels + 31 & -32}")
    if kind == "mask2former" and len(backbone.channels) < 3:
        raise ValueError(f"mask2former reads 3 blocks, {name!r} has fewer: set --model.segmenter.head concat")
    if kind == "mask2former":
        return Mask2Former(backbone.channels, channels, backbone.stride)
    if backbone.plain != (kind in ("concat", "pyramid")):
        family, other = ("plain ViT", "concat") if backbone.plain else ("hierarchy", "deeplabv3plus")
        raise ValueError(f"head {kind!r} does not suit {name!r}, a {family}: set --model.segmenter.head {other}")
    if kind == "pyramid":
        return Pyramid(backbone.channels[-1], channels, backbone.stride)
    if kind == "concat":
        return Concat(backbone.channels, channels)
    if kind == "fpn":
        return FPN(backbone.channels, channels)
    return DeepLabV3Plus((backbone.channels[0], backbone.channels[-1]), channels, backbone.stride)
