"""Sentences that describe a class to CLIP's text tower."""

from collections.abc import Sequence

from ppar_lightning.images.classes import CLASSES
from ppar_lightning.method.options import Prompts

SYNONYMS: dict[str, tuple[str, ...]] = {
    "road": ("road", "street"),
    "sidewalk": ("sidewalk", "pavement"),
    "vegetation": ("vegetation", "tree"),
    "terrain": ("terrain", "grass"),
    "person": ("person", "pedestrian"),
    "rider": ("rider", "cyclist"),
    "truck": ("truck", "lorry"),
    "motorcycle": ("motorcycle", "motorbike"),
}
"""Words whose sentences are averaged into one class; a class that is not listed goes by its own name."""

# CLIP's 80 ImageNet templates; those it has with both articles are written once.
_BOTH_ARTICLES = (
    "a bad photo of {} {{}}",
    "a sculpture of {} {{}}",
    "a rendering of {} {{}}",
    "a cropped photo of {} {{}}",
    "a tattoo of {} {{}}",
    "a bright photo of {} {{}}",
    "a dark photo of {} {{}}",
    "a drawing of {} {{}}",
    "a close-up photo of {} {{}}",
    "a black and white photo of {} {{}}",
    "a painting of {} {{}}",
    "a pixelated photo of {} {{}}",
    "a jpeg corrupted photo of {} {{}}",
    "a blurry photo of {} {{}}",
    "a good photo of {} {{}}",
    "a doodle of {} {{}}",
    "a low resolution photo of {} {{}}",
    "a rendition of {} {{}}",
    "a sketch of {} {{}}",
    "a photo of {} {{}}",
    "a photo of {} hard to see {{}}",
    "a photo of {} clean {{}}",
    "a photo of {} dirty {{}}",
    "a photo of {} cool {{}}",
    "a photo of {} large {{}}",
    "a photo of {} small {{}}",
    "a photo of {} nice {{}}",
    "a photo of {} weird {{}}",
)
_CLIP80 = (
    *(template.format(article) for template in _BOTH_ARTICLES for article in ("a", "the")),
    *(f"{thing} of {article} {{}}" for thing in ("graffiti", "art", "itap") for article in ("a", "the")),
    *(f"{article} {kind} {{}}" for kind in ("plastic", "toy", "cartoon", "plushie") for article in ("a", "the")),
    *("the embroidered {}", "a embroidered {}", "the origami {}", "a origami {}"),
    *("a {} in a video game", "the {} in a video game"),
    *("a photo of many {}", "a photo of my {}", "a photo of one {}", "itap of my {}"),
)

TEMPLATES: dict[Prompts, tuple[str, ...]] = {
    "bare": ("{}",),
    "photo": ("a photo of a {}",),
    "clip80": _CLIP80,
    "driving": (
        "a photo of a {} in a street",
        "a {} seen from a car",
        "a {} in a driving scene",
        "a {} by day",
        "a {} at night",
        "a {} in fog",
        "a {} in rain",
        "a {} in snow",
    ),
}
"""Prompt set -> its templates."""


def sentences(prompts: Prompts, class_names: Sequence[str] = CLASSES) -> list[list[str]]:
    """List the sentences that describe each class.

    Args:
        prompts: Name of the prompt set.
        class_names: K names.

    Returns:
        K lists of sentences, one sentence per template and synonym.
    """
    return [
        [template.format(word) for word in SYNONYMS.get(name, (name,)) for template in TEMPLATES[prompts]]
        for name in class_names
    ]
