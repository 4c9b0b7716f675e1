"""Checks of the names, images and weights of source and unseen domains: nothing unseen is trained on."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from ppar_lightning.data.domain import Domain
from ppar_lightning.data.split import Split

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


def shared_images(
    trained: Mapping[str, Split], scored: Mapping[str, Split], unseen: Collection[str], fitting: bool = True
) -> dict[str, str]:
    """Say in one line for each scored domain how many of its images are trained on, if any are.

    Args:
        trained: Source -> its training split.
        scored: Domain -> its evaluation split.
        unseen: Names of the domains that training must not see.
        fitting: Whether the scores are those of a training, which may do without.

    Returns:
        Domain -> the line, with a remedy.
    """
    sources = {split.whole.image_key(index): name for name, split in trained.items() for index in split.indices}
    found = {}
    for name, split in scored.items():
        shared = [index for index in split.indices if split.whole.image_key(index) in sources]
        if not shared:
            continue
        source, first = sources[split.whole.image_key(shared[0])], split.whole.name(shared[0])
        count = f"{len(shared)} of the {len(split)} images that it is scored on, such as {first}"
        remedy = "choose other images with train_split or eval_split (patterns of a folder need {split})"
        unscored = ", or validate nothing with --trainer.limit_val_batches 0" * fitting
        remedy += ", or take the domain out" if name in unseen else unscored
        found[name] = f"source {source!r} trains on {count}; {remedy}"
    return found
