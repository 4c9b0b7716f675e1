"""Measures of the trained tiny CLIP on held-out streets, and its model card."""

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from transformers import CLIPModel, CLIPTokenizer

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.streets.render import DOMAINS
from tools.tinyclip.objective import embed_images, embed_tokens
from tools.tinyclip.pictures import Album, cut, normalise, render_album

TEST_SEED = 12
CROPS = 60
"""Largest number of held-out crops of each class."""


CARD = """# Tiny CLIP for street scenes

A `transformers.CLIPModel` of {parameters:.1f} M parameters ({megabytes:.1f} MB with its tokenizer, fp16): an image
tower with patches of {vision.patch_size} x {vision.patch_size}, {vision.num_hidden_layers} layers and width \
{vision.hidden_size}, a text tower of {text.num_hidden_layers} layers, and a joint space of {dim} dimensions.
`make tinyclip` wrote it and this card, and measured every figure below.

- Data: {streets} procedural streets in the `web` family of styles and sentences about them: crops around objects,
  windows and whole scenes, each with the classes that it shows, never where. No unseen domain's style is among them.
- Training: {steps} steps, {minutes:.0f} minutes with rendering, {threads} thread(s) on {machine}.
- Meant for this package's demo and tests. It knows rendered streets and no photographs.

## Zero-shot classes on held-out `web` crops

Nearest of the 19 sentences "a photo of a X"; up to {crops} crops a class from {tested} streets.
Mean over classes: **{accuracy:.1f} %** (chance: 5.3 %).

{by_class}

## Zero-shot segmentation

Nearest sentence for each patch, by the value path of the last block.

{by_domain}

## Cosines of the class prompts

Between different classes {mean:.2f} on average, from {low:.2f} to {high:.2f}.

{matrix}
"""


def class_embeddings(model: CLIPModel, tokenizer: CLIPTokenizer) -> Tensor:
    """Return the unit vectors of "a photo of a X" for the 19 classes, (19, D)."""
    prompts = [f"a photo of a {name}" for name in CITYSCAPES]
    return embed_tokens(model, dict(tokenizer(prompts, padding=True, return_tensors="pt")))


@torch.no_grad()
def class_accuracy(
    model: CLIPModel, tokenizer: CLIPTokenizer, album: Album, crops: int = CROPS
) -> npt.NDArray[np.float64]:
    """Return the share of each class's crops whose nearest prompt names their class, (19,); NaN without crops."""
    prompts, accuracy = class_embeddings(model, tokenizer), np.full(len(CITYSCAPES), np.nan)
    for label, views in enumerate(album.views):
        if views:
            images = np.stack([cut(album.images[view.scene], view) for view in views[:crops]])
            nearest = (embed_images(model, normalise(images))[0] @ prompts.T).argmax(dim=1)
            accuracy[label] = (nearest == label).float().mean().item()
    return accuracy


@torch.no_grad()
def dense_miou(model: CLIPModel, tokenizer: CLIPTokenizer, album: Album) -> float:
    """Return the mIoU in per cent of assigning each patch to its nearest prompt, upsampled to the labels' size."""
    prompts, classes = class_embeddings(model, tokenizer), len(CITYSCAPES)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    _, height, width, _ = album.images.shape
    patch = model.vision_model.config.patch_size
    for image, label in zip(album.images, album.labels, strict=True):
        scores = embed_images(model, normalise(image[None]))[1] @ prompts.T
        grid = scores.transpose(1, 2).unflatten(2, (height // patch, width // patch))
        logits = torch.nn.functional.interpolate(grid, (height, width), mode="bilinear")
        confusion += multiclass_confusion_matrix(logits.argmax(1), torch.from_numpy(label[None]).long(), classes)
    hits = confusion.diagonal()
    return 100 * (hits / (confusion.sum(0) + confusion.sum(1) - hits)).nanmean().item()


def write_card(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    streets: int,
    minutes: float,
    streets_tested: int,
) -> None:
    """Measure the model on held-out streets and write README.md beside its weights.

    Args:
        model: The trained model.
        tokenizer: Its tokenizer.
        folder: Folder of the weights.
        steps: Number of optimiser steps of the training.
        streets: Number of streets it was trained on.
        minutes: Wall time of rendering and training.
        streets_tested: Number of held-out `web` streets for the crops; the dense score uses a quarter as many of each
            domain.
    """
    accuracy = class_accuracy(model, tokenizer, render_album(TEST_SEED, streets_tested))
    dense = {name: dense_miou(model, tokenizer, render_album(TEST_SEED, streets_tested // 4, name)) for name in DOMAINS}
    cosines = _cosines(model, tokenizer)
    others = cosines[~np.eye(len(CITYSCAPES), dtype=bool)]
    numbered = [f"{label} {name}" for label, name in enumerate(CITYSCAPES)]
    text = CARD.format(
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        megabytes=sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        vision=model.vision_model.config,
        text=model.text_model.config,
        dim=model.config.projection_dim,
        streets=streets,
        steps=steps,
        minutes=minutes,
        threads=torch.get_num_threads(),
        machine=_machine(),
        crops=CROPS,
        tested=streets_tested,
        accuracy=100 * np.nanmean(accuracy),
        by_class=_table(
            ["class", "%"], [[name, f"{100 * a:.0f}"] for name, a in zip(CITYSCAPES, accuracy, strict=True)]
        ),
        by_domain=_table(["domain", "mIoU %"], [[name, f"{value:.1f}"] for name, value in dense.items()]),
        mean=others.mean(),
        low=others.min(),
        high=others.max(),
        matrix=_table(
            ["", *map(str, range(len(CITYSCAPES)))],
            [[name, *(f"{value:.2f}" for value in row)] for name, row in zip(numbered, cosines, strict=True)],
        ),
    )
    (folder / "README.md").write_text(text)
    print(text)


@torch.no_grad()
def _cosines(model: CLIPModel, tokenizer: CLIPTokenizer) -> npt.NDArray[np.float32]:
    """Return the cosines between the class prompts, (19, 19)."""
    prompts = class_embeddings(model, tokenizer)
    return (prompts @ prompts.T).numpy()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine() -> str:
    """Return the name of the processor and the number of its cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {len(models)} cores" if models else platform.machine()
