"""A batch that stands for a segmenter's output in the tests of the method."""

from typing import NamedTuple

import torch
from torch import Tensor

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.segmenter.segmenter import SegmenterOutput

CHANNELS = 12
CLASSES = len(CITYSCAPES)
WORDS = CITYSCAPES.words


class Batch(NamedTuple):
    output: SegmenterOutput
    image: Tensor
    label: Tensor

    def rows(self, start: int, stop: int) -> "Batch":
        """The images from start to stop."""
        names = ("coarse", "decoder", "backbone")
        parts = {name: getattr(self.output, name)[start:stop].detach().requires_grad_() for name in names}
        output = self.output._replace(**parts)
        return Batch(output, self.image[start:stop], self.label[start:stop])


def make_batch(images: int = 2, seed: int = 0, classes: int = CLASSES) -> Batch:
    """Random features at stride 4 and 16 for crops of 64 x 128 whose labels are constant over 16 x 16 pixels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, classes, (images, 4, 8), generator=generator)
    label = label.repeat_interleave(16, 1).repeat_interleave(16, 2)
    output = SegmenterOutput(
        torch.randn(images, CLASSES, 64, 128, generator=generator).requires_grad_(),
        torch.randn(images, CHANNELS, 16, 32, generator=generator).requires_grad_(),
        (64, 128),
        (64, 128),
        torch.randn(images, CHANNELS, 4, 8, generator=generator).requires_grad_(),
    )
    return Batch(output, torch.rand(images, 3, 64, 128, generator=generator), label)
