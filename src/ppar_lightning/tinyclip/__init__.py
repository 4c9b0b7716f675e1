"""A tiny CLIP for street scenes, trained on rendered pictures; the default where no network is at hand."""

from pathlib import Path

PATH = Path(__file__).parent / "weights"
"""Folder that `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained` read."""
