"""PPAR in PyTorch Lightning: segmentation that generalises to domains it never saw."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations would ask the network for its newest version

from ppar_lightning.load import load_segmenter
from ppar_lightning.segmenter.segmenter import Segmenter

__all__ = ["Segmenter", "load_segmenter"]
