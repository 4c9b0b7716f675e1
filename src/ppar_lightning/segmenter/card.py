"""The card of a shared model: training data, scores, and how to load it."""

from pathlib import Path
from typing import Any

ABOUT: dict[str, Any] = {
    "library_name": "ppar-lightning",
    "license": "apache-2.0",
    "pipeline_tag": "image-segmentation",
    "paper_url": "https://arxiv.org/abs/2507.11955",
    "tags": ["semantic-segmentation", "domain-generalization"],
}
"""Metadata that huggingface_hub writes at the top of a card."""

CARD = Path(__file__).with_suffix(".md").read_text()
"""Template of a card; `training_summary` is Markdown, and `predicts` names the classes."""
