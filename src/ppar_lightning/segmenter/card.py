"""The card of a shared model: what it was trained on, how it was scored, how it is loaded."""

from typing import Any

ABOUT: dict[str, Any] = {
    "library_name": "ppar-lightning",
    "license": "apache-2.0",
    "pipeline_tag": "image-segmentation",
    "paper_url": "https://arxiv.org/abs/2507.11955",
    "tags": ["semantic-segmentation", "domain-generalization"],
}
"""What huggingface_hub writes at the head of a card."""

CARD = """---
{{ card_data }}
---

# Semantic segmentation for domains it never saw

A network of `ppar_lightning`, an independent implementation of *Prototypical Progressive Alignment and Reweighting for
Generalizable Semantic Segmentation* ([arXiv 2507.11955]({{ paper_url }})).

It predicts {{ predicts }}.

```python
from ppar_lightning import load_segmenter

label = load_segmenter("{{ model_id | default('FOLDER', true) }}").predict("picture.png")  # (H, W) train ids
```

{{ training_summary | default('How it was trained was not recorded.', true) }}

Licence of this network's code and weights: Apache-2.0; those of the images it was trained on may restrict their use.
"""
"""Template of a card; `training_summary` is Markdown, `predicts` says which classes."""
