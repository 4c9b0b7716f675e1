"""A folder of the user's own: options say where its files are and what the label ids mean."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import yaml

from ppar_lightning.data.dataset import FolderDataset, OnBadSample
from ppar_lightning.data.datasets.label_ids import MEANINGS
from ppar_lightning.data.layout import IMAGE_SUFFIXES, LABEL_SUFFIXES, Layout
from ppar_lightning.images.classes import CITYSCAPES, IGNORE
from ppar_lightning.images.decoding import EXPORT

LINES = "with lines like '7: road'"


class Folder(FolderDataset):
    """Images and label maps of any folder, scored over the classes that `ids` names.

    Args:
        root: The folder.
        split: Name that replaces `{split}` in the patterns.
        domain: Name of the domain, which its samples carry.
        images: Pattern of the images under the root, such as `images/{split}/*.jpg`; `*` is a sample's name.
        labels: Pattern of the label maps, PNG files of ids from 0 to 255, with the same `*`.
        ids: Label id -> train id, name of a class or `ignore`, for every id that occurs; or the path of a YAML file
            with this mapping, relative to the root or to the working directory.
        on_bad_sample: See `FolderDataset`.
    """

    colour_remedy: ClassVar[str] = f"let option labels match the maps of ids, or {EXPORT}"

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        images: str,
        labels: str,
        ids: str | Path | Mapping[int, int | str],
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        for option, pattern, suffixes in (("images", images, IMAGE_SUFFIXES), ("labels", labels, LABEL_SUFFIXES)):
            if "*" not in pattern or not pattern.endswith(suffixes):
                raise ValueError(
                    f"{option} is {pattern!r}; write a pattern with * that ends in {' or '.join(suffixes)}, "
                    "and save files of other kinds as one of these"
                )
        self.id_remedy = f"add it to ids{'' if isinstance(ids, Mapping) else f' in {ids}'}, as a class or as ignore"
        table = _train_ids(ids if isinstance(ids, Mapping) else _read_ids(root, Path(ids)))
        self.layouts = (Layout(images, labels, table),)
        self.scored_classes = [CITYSCAPES[k] for k in sorted({*table.values()} - {IGNORE})]
        super().__init__(root, split, domain, on_bad_sample)


def _read_ids(root: str | Path | None, path: Path) -> Mapping[int, int | str]:
    found = next((file for file in (Path(root or "", path), path) if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"ids file {path} not found, neither in {root} nor here; write one {LINES}")
    try:
        ids = yaml.safe_load(found.read_text())
    except (yaml.YAMLError, ValueError, RecursionError):
        ids = None
    if not isinstance(ids, Mapping):
        raise ValueError(f"{found} is no mapping in YAML; write it {LINES}")
    return ids


def _train_ids(ids: Mapping[int, int | str]) -> dict[int, int]:
    table: dict[int, int] = {}
    for key, meaning in ids.items():
        label_id, train_id = _number(key), MEANINGS.get(meaning, -1) if isinstance(meaning, str) else _number(meaning)
        if label_id not in range(256) or train_id not in MEANINGS.values():
            line = f"{reprlib.repr(key)[:60]} to {reprlib.repr(meaning)[:60]}"  # a user may write anything there
            takes = f"a train id of 0-18, ignore, or one of {', '.join(CITYSCAPES)}"
            raise ValueError(f"ids maps {line}; map an id of 0-255 to {takes}")
        table[label_id] = train_id
    return table


def _number(value: object) -> int:
    """Return an integer, given as such or in digits, else -1. YAML's `yes` is not taken for 1."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 9:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
