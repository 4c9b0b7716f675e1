"""Training of the tiny CLIP for street scenes, from rendered pictures. It is the default CLIP and needs no download."""

from pathlib import Path

from ppar_lightning.segmenter.pretrained import SHIPPED

PATH = Path(SHIPPED["tinyclip"])
"""Folder of the trained model, for `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained`."""
