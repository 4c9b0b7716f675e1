"""What the ids in label files mean, from the table `label_ids.yaml`."""

from importlib.resources import files

import yaml

from ppar_lightning.images.classes import CITYSCAPES, IGNORE

MEANINGS = {name: train_id for train_id, name in enumerate(CITYSCAPES)} | {"ignore": IGNORE}
"""Class name or `ignore` -> train id."""

TRAIN_IDS = {train_id: train_id for train_id in MEANINGS.values()}
"""Train id -> itself, the table for files that hold train ids."""

_TABLES = yaml.safe_load((files(__package__) / "label_ids.yaml").read_text())


def shipped_ids(name: str) -> dict[int, int]:
    """Return a table of `label_ids.yaml`: label id -> train id, for every id that occurs."""
    return {label_id: MEANINGS[meaning] for label_id, meaning in _TABLES[name].items()}


LABEL_IDS = dict.fromkeys((*range(34), 255), IGNORE) | shipped_ids("cityscapes")
"""Label id -> train id, for all ids of Cityscapes' `labelIds` files; 255 is the license plate, -1 stored in a byte."""

KINDS = {"labelTrainIds": TRAIN_IDS, "labelIds": LABEL_IDS}
"""What label files in Cityscapes' manner are called -> the ids in them."""
