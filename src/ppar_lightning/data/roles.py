"""Checks of the names, images and weights of source and unseen domains."""

import os
from collections.abc import Mapping
from pathlib import Path

from ppar_lightning.data.domain import Domain

RESERVED = "unseen"
"""Name that metrics of the mean over the unseen domains carry."""


def check_roles(sources: Mapping[str, Domain], unseen: Mapping[str, Domain]) -> None:
    """Refuse domains that would make scores misleading.

    Raises:
        ValueError: There is no source, a name has both roles or cannot be part of a metric's name, an unseen domain is
            scored on the images that a source trains on, or weights are given for some sources only.
    """
    both = set(sources) & set(unseen)
    if not sources or both:
        fault = f"{', '.join(sorted(both))} is a source and unseen" if both else "there is no source"
        raise ValueError(f"{fault}; list each domain once, under data.sources or data.unseen")
    for name in (*sources, *unseen):
        if not name or not name.isprintable() or {*"/\\"} & {*name} or name == RESERVED:
            remedy = "rename it and give its data set with option dataset"
            raise ValueError(f"a domain cannot be called {name!r}, in val/{{domain}}/miou or {{domain}}.png; {remedy}")
    trained = {_images(name, domain, "train"): name for name, domain in sources.items()}
    for name, domain in unseen.items():  # by their options, as training does not open what is unseen
        source = trained.get(_images(name, domain, "eval"))
        if source is not None:
            raise ValueError(f"unseen {name!r} is scored on the images that source {source!r} trains on; remove one")
    weights = {name: domain.weight for name, domain in sources.items()}
    given = [weight for weight in weights.values() if weight is not None]
    if (given and (len(given) < len(weights) or min(given) <= 0)) or any(domain.weight for domain in unseen.values()):
        remedy = "give each a number above 0, or none of them, and none to unseen domains"
        raise ValueError(f"weights of the sources are {weights}; {remedy}")


def _images(name: str, domain: Domain, split: str) -> tuple[object, ...]:
    """Return values that identify a set of images, whatever the domain is called."""
    folder = os.path.realpath(Path(domain.root).expanduser()) if domain.root else None
    return domain.dataset or name, folder, domain.split(name, split), repr(sorted(domain.options.items()))
