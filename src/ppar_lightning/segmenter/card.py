"""The card of a shared model: training data, scores, and how to load it."""

from typing import Any

ABOUT: dict[str, Any] = {
    "library_name": "ppar-lightning",
    "license": "apache-2.0",
    "pipeline_tag": "image-segmentation",
    "paper_url": "https://arxiv.org/abs/2507.11955",
    "tags": ["semantic-segmentation", "domain-generalization"],
}
"""Metadata that huggingface_hub writes at the top of a card."""

CARD = """---
{{ card_data }}
---

# Semantic segmentation for unseen domains

A network of `ppar_lightning`, an independent implementation of *Prototypical Progressive Alignment and Reweighting for
Generalizable Semantic Segmentation* ([arXiv 2507.11955]({{ paper_url }})).

It predicts {{ predicts }}.

```python
from ppar_lightning import load_segmenter

label = load_segmenter("{{ model_id | default('FOLDER', true) }}").predict("picture.png")  # (H, W) train ids
```

{{ training_summary | default('The training was not recorded.', true) }}

Licence of this network's code and weights: Apache-2.0. The licences of its training images may restrict their use.
"""
"""Template of a card; `training_summary` is Markdown, `predicts` says which classes."""
