"""Images that are trained on and scored, found by their paths."""

from collections.abc import Collection, Mapping

from ppar_lightning.data.split import Split


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
        remedies = ["choose other images with train_split or eval_split (patterns of a folder need {split})"]
        if name in unseen:
            remedies.append("take the domain out")
        elif fitting:
            remedies.append("validate nothing with --trainer.limit_val_batches 0")
        found[name] = f"source {source!r} trains on {count}; {', or '.join(remedies)}"
    return found
