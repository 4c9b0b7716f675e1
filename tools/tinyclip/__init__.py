"""A tiny CLIP for street scenes, trained on rendered pictures; the default where no network is at hand."""

from pathlib import Path

from ppar_lightning.segmenter.pretrained import SHIPPED

PATH = Path(SHIPPED["tinyclip"])
"""Folder that `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained` read."""
