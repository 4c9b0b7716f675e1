"""Batches for the tiny CLIP: pictures and sentences that distinguish them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import CLIPTokenizer

from ppar_lightning.images.classes import CITYSCAPES
from tools.tinyclip.captions import CONDITIONS, object_caption, scene_caption
from tools.tinyclip.pictures import Album, Images, draw_objects, draw_scenes, draw_windows, normalise

K = len(CITYSCAPES)
OBJECTS, WINDOWS, SCENES = 96, 64, 1
"""Number of pictures of each kind in a batch."""

FACTS = {fact: index for index, fact in enumerate((*CITYSCAPES, *CONDITIONS))}
"""Class or condition -> its column in a table of facts."""


def augment(images: Images, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, mix their channels, and shift light and contrast; then normalise."""
    pixels = normalise(images)
    count = len(pixels)
    mirrored = torch.rand(count, generator=generator) < 0.5
    pixels[mirrored] = pixels[mirrored].flip(-1)
    mix = torch.eye(3) * torch.empty(count, 1, 1).uniform_(0.75, 1.25, generator=generator)
    mix = mix + 0.06 * torch.randn(count, 3, 3, generator=generator)
    shift = 0.12 * torch.randn(count, 3, 1, 1, generator=generator)
    return torch.einsum("bij,bjhw->bihw", mix, pixels) + shift


class Batch(NamedTuple):
    """Pictures, their captions, and a sentence for each class.

    Args:
        objects: (OBJECTS, 3, S, S) normalised crops around objects.
        windows: (WINDOWS, 3, S, S) normalised squares from anywhere.
        scenes: (SCENES, 3, H, W) normalised whole scenes.
        captions: Token ids and attention mask of the captions of objects, windows and scenes, in this order.
        facts: (OBJECTS + WINDOWS + SCENES, A), 1 for each class or condition that a caption states.
        window_shares: (WINDOWS, K), share of each class in a window.
        scene_shares: (SCENES, K), share of each class in a scene.
        names: Token ids and attention mask of K sentences, one per class.
    """

    objects: Tensor
    windows: Tensor
    scenes: Tensor
    captions: dict[str, Tensor]
    facts: Tensor
    window_shares: Tensor
    scene_shares: Tensor
    names: dict[str, Tensor]


class Batches(IterableDataset[Batch]):
    """An endless iterator of random batches."""

    def __init__(self, album: Album, tokenizer: CLIPTokenizer, seed: int) -> None:
        self.album, self.tokenizer = album, tokenizer
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            objects, object_captions, object_facts = self.objects()
            drawn = draw_windows(self.album, WINDOWS, self.rng)
            windows, window_shares, window_captions, window_facts = self.scenes(*drawn)
            drawn = draw_scenes(self.album, SCENES, self.rng)
            scenes, scene_shares, scene_captions, scene_facts = self.scenes(*drawn)
            yield Batch(
                objects,
                windows,
                scenes,
                tokenise(self.tokenizer, [*object_captions, *window_captions, *scene_captions]),
                torch.cat([object_facts, window_facts, scene_facts]),
                window_shares,
                scene_shares,
                tokenise(self.tokenizer, [object_caption(self.rng, label) for label in range(K)]),
            )

    def objects(self) -> tuple[Tensor, list[str], Tensor]:
        """Return crops, their captions, and the facts that the captions state."""
        images, views = draw_objects(self.album, OBJECTS, self.rng)
        captions, facts = [], torch.zeros(OBJECTS, len(FACTS))
        for row, view in enumerate(views):
            weather = self.rng.choice(self.album.conditions[view.scene]) if self.rng.random() < 0.25 else None
            captions.append(object_caption(self.rng, view.label, weather))
            facts[row, view.label] = 1
            if weather:
                facts[row, FACTS[weather]] = 0.5
        return augment(images, self.generator), captions, facts

    def scenes(
        self, images: Images, shares: npt.NDArray[np.float32], numbers: list[int]
    ) -> tuple[Tensor, Tensor, list[str], Tensor]:
        """Return pictures, the shares of their classes, captions that name some classes, and the captions' facts."""
        captions, facts = [], torch.zeros(len(images), len(FACTS))
        for row, (share, number) in enumerate(zip(shares, numbers, strict=True)):
            visible = np.flatnonzero(share >= min(0.02, share.max()))
            chosen = self.rng.permutation(visible)[: self.rng.integers(1, 4)].tolist()
            weather = self.album.conditions[number] if self.rng.random() < 0.5 else []
            captions.append(scene_caption(self.rng, chosen, weather))
            facts[row, [*chosen, *(FACTS[name] for name in weather)]] = 1
        return augment(images, self.generator), torch.from_numpy(shares), captions, facts


class Paraphrases:
    """An endless iterator of pairs of sentences with the same meaning, and their facts."""

    def __init__(self, tokenizer: CLIPTokenizer, seed: int, count: int = 128) -> None:
        self.tokenizer, self.count = tokenizer, count
        self.rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor], Tensor]]:
        while True:
            facts = torch.zeros(self.count, len(FACTS))
            pairs = []
            for row in facts:
                labels = self.rng.choice(K, size=self.rng.choice([1, 1, 1, 2, 3]), replace=False).tolist()
                weather = [str(self.rng.choice(list(CONDITIONS)))] if self.rng.random() < 0.4 else []
                row[[*labels, *(FACTS[name] for name in weather)]] = 1
                pairs.append([self.caption(labels, weather) for _ in range(2)])
            one, other = (list(side) for side in zip(*pairs, strict=True))
            yield tokenise(self.tokenizer, one), tokenise(self.tokenizer, other), facts

    def caption(self, labels: list[int], weather: list[str]) -> str:
        """Write a random sentence about some classes."""
        if len(labels) == 1 and self.rng.random() < 0.8:
            return object_caption(self.rng, labels[0], weather[0] if weather else None)
        return scene_caption(self.rng, self.rng.permutation(labels).tolist(), weather)


def tokenise(tokenizer: CLIPTokenizer, captions: list[str]) -> dict[str, Tensor]:
    """Convert captions to token ids and attention mask."""
    return dict(tokenizer(captions, padding=True, truncation=True, return_tensors="pt"))
