"""Sentences that describe a class to CLIP's text tower."""

from collections.abc import Sequence
from importlib.resources import files

import yaml

from ppar_lightning.method.options import Prompts

TEMPLATES: dict[str, list[str]] = yaml.safe_load((files(__package__) / "prompts.yaml").read_text())
"""Prompt set -> its templates."""


def sentences(prompts: Prompts, words: Sequence[Sequence[str]]) -> list[list[str]]:
    """List the sentences that describe each class.

    Args:
        prompts: Name of the prompt set, or templates with {} in place of the class.
        words: The words for each of the K classes, in the order of the train ids.

    Returns:
        K lists of sentences, one sentence per template and word.
    """
    templates = TEMPLATES[prompts] if isinstance(prompts, str) else prompts
    return [[template.replace("{}", word) for word in each for template in templates] for each in words]
