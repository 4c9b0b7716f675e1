"""Sentences that describe a class to CLIP's text tower."""

from collections.abc import Sequence
from importlib.resources import files

import yaml

from ppar_lightning.images.classes import CLASSES
from ppar_lightning.method.options import Prompts

_TABLES = yaml.safe_load((files(__package__) / "prompts.yaml").read_text())

SYNONYMS: dict[str, list[str]] = _TABLES["synonyms"]
"""Words whose sentences are averaged into one class; a class that is not listed goes by its own name."""

TEMPLATES: dict[Prompts, list[str]] = _TABLES["templates"]
"""Prompt set -> its templates."""


def sentences(prompts: Prompts, class_names: Sequence[str] = CLASSES) -> list[list[str]]:
    """List the sentences that describe each class.

    Args:
        prompts: Name of the prompt set.
        class_names: The K words for the classes, in the order of the train ids.

    Returns:
        K lists of sentences, one sentence per template and synonym.
    """
    return [
        [template.format(word) for word in SYNONYMS.get(name, [name]) for template in TEMPLATES[prompts]]
        for name in class_names
    ]
