"""Semantic segmentation models of transformers, as others have trained them, to be scored."""

import re

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from ppar_lightning.images.classes import CITYSCAPES, ClassList
from ppar_lightning.segmenter.heads import resize
from ppar_lightning.segmenter.pretrained import load_pretrained, load_weights, normalisation
from ppar_lightning.segmenter.sliding import slide

LOADERS = (
    (transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING, transformers.AutoModelForSemanticSegmentation),
    (transformers.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING, transformers.AutoModelForUniversalSegmentation),
)
"""Configs of a kind of model, and what loads it."""

OTHERS = ("detr", "videomt")
"""Types among these that segment videos, or have other outputs."""

FIXED = ("beit", "data2vec-vision", "dpt", "eomt", "eomt_dinov3")
"""Types whose networks take squares of ``image_size`` alone."""

STRIDE = 32
"""The sides of images for other types are padded to multiples of this."""


class ForeignSegmenter(nn.Module):
    """A segmentation model of transformers that segments RGB in [0, 1] of any size into scores of its own classes.

    Of the model's preprocessing, only the normalisation is used, because a protocol decides the size of the images. A
    network that takes squares of one size alone slides over the image.

    Attributes:
        classes: K classes of the model; one that the target has, by name or by a word for prompts, has its name there.
        window: Size of the squares in pixels; 0 if the network takes any size.
        per_pixel: True, as scores of queries are no logarithms: windows average them as they are.
    """

    per_pixel = True
    mean: Tensor
    std: Tensor
    task: Tensor | None

    def __init__(self, name: str, target: ClassList) -> None:
        """Load the model.

        Args:
            name: Hub id or folder.
            target: Classes that it will be scored over.

        Raises:
            OSError: The model cannot be loaded, or a OneFormer lacks its tokenizer.
            ValueError: It is no semantic segmentation model, or lacks weights.
        """
        super().__init__()
        config = load_pretrained(transformers.AutoConfig, name)
        loader = next((each for kinds, each in LOADERS if type(config) in kinds), None)
        if loader is None or config.model_type in OTHERS:
            kinds = "SegFormer, UperNet, Mask2Former, OneFormer, EoMT or another semantic segmentation model"
            raise ValueError(f"model {name!r} is of type {config.model_type}: give a {kinds} of transformers")
        self.network = load_weights(loader, name, config).eval().requires_grad_(False)
        self.window = config.image_size if config.model_type in FIXED else 0
        self.classes = named_as(target, [config.id2label[index] for index in sorted(config.id2label)])
        for title, values in zip(("mean", "std"), normalisation(name), strict=True):
            self.register_buffer(title, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)
        tokens = read_task(name, config.task_seq_len) if config.model_type == "oneformer" else None
        self.register_buffer("task", tokens, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Segment RGB images (B, 3, H, W) in [0, 1] into scores (B, K, H, W): logits, or sums over queries.

        A model of queries gets its standard semantic scores: the sum over the queries of the probability of a class
        times that of the mask, which is computed at the size of the masks and then resized.
        """
        return slide(self._scores, image, self.window, 2 * self.window // 3) if self.window else self._scores(image)

    def _scores(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        right, below = (max(0, self.window - side) if self.window else -side % STRIDE for side in (width, height))
        padded = functional.pad(image, (0, right, 0, below), mode="replicate")
        given = {} if self.task is None else {"task_inputs": self.task.expand(len(image), -1)}
        output = self.network(pixel_values=(padded - self.mean) / self.std, **given)
        if "class_queries_logits" in output:
            shares = output.class_queries_logits.softmax(dim=-1)[..., :-1]  # the last is "no object"
            scores = torch.einsum("bqk,bqhw->bkhw", shares, output.masks_queries_logits.sigmoid())
        else:
            scores = output.logits
        return resize(scores, padded.shape[2:])[..., :height, :width]


def read_task(name: str, length: int) -> Tensor:
    """Return the tokens by which a OneFormer is asked for semantic segmentation, (1, length).

    Raises:
        OSError: The model has no tokenizer.
    """
    tokenizer = load_pretrained(transformers.AutoTokenizer, name)
    # Without a tokenizer's files, transformers makes one that knows no words.
    if tokenizer("semantic").input_ids == tokenizer("panoptic").input_ids:
        raise OSError(f"model {name!r} holds no tokenizer: copy its tokenizer's files there")
    text = tokenizer("the task is semantic", padding="max_length", max_length=length, return_tensors="pt")
    return text["input_ids"] * text["attention_mask"]


def named_as(target: ClassList, labels: list[str]) -> ClassList:
    """Return the classes of a model; a class that the target has gets its name there.

    A label such as ``road, route`` or ``traffic_light`` is compared by each of its names, in lower case, first with the
    target's names and then with its words.
    """

    def plain(text: str) -> str:
        return re.sub(r"[\s_-]+", " ", text.lower()).strip()

    known = {
        name: group
        for name, group in zip(CITYSCAPES, CITYSCAPES.groups, strict=True)
        if {*CITYSCAPES.groups} <= {*target}
    }
    known |= {plain(word): name for name, words in zip(target, target.words, strict=True) for word in words}
    known |= {plain(name): name for name in target}
    names = [[plain(part) for part in re.split("[,;]", label)] for label in labels]
    found = tuple(next((known[name] for name in own if name in known), own[0]) for own in names)
    return ClassList(found, ((0, 0, 0),) * len(found), tuple((name,) for name in found), ("",) * len(found))
