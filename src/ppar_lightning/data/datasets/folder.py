"""A folder of the user's own: options say where its files are and what the labels mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from ppar_lightning.data.dataset import FolderDataset, OnBadSample
from ppar_lightning.data.layout import LABELS, OUTLINES, Layout, PairList, find
from ppar_lightning.data.meanings import Meanings
from ppar_lightning.data.outlines import CocoLayout, read_outlines
from ppar_lightning.images.classes import CITYSCAPES, IGNORE, Classes, ClassList, class_list
from ppar_lightning.images.colour_key import colours_to_train_ids
from ppar_lightning.images.decoding import EXPORT, PICTURES, Array, read_coloured_label

LINES = "with lines like '7: road'"


class Folder(FolderDataset):
    """Images and labels of any folder, in any classes.

    Args:
        root: The folder.
        split: Name that replaces `{split}` in the patterns.
        domain: Name of the domain, which its samples carry.
        images: Pattern of the images under the root, such as `images/{split}/*.jpg`; `*` is a sample's name.
        labels: Pattern of the labels, with the same `*`: pictures (PNG, TIFF or BMP), or JSON of Cityscapes or LabelMe;
            or one JSON file of COCO, without `*`.
        pairs: In place of both patterns, a CSV file with the columns `image`, `label` and, as far as wanted, `split`.
        classes: The list that the labels are in, in any form of `data.classes`, which is the default.
        ids: Every id in the pictures, or the colours and names in JSON that no class has -> train id, name of a class,
            or `ignore`; or the path of a YAML file with this mapping, relative to the root or to the working directory.
        offset: Pictures hold train id + offset; lower ids are ignored, and so is 255 unless a class has it. By default
            0, or if there are `ids`, nothing but these.
        encoding: Whether pictures hold `ids`, or the `colours` of the classes, where black is ignored.
        colour_distance: Another colour counts as the nearest one, up to this Euclidean distance in levels of 0-255.
        uncovered: Class of the pixels that no object of the JSON covers, or `ignore`.
        target: The list of the run, `data.classes`.
        on_bad_sample: See `FolderDataset`.
    """

    id_remedy = "map all ids in ids, to a class or to ignore, or give an offset"
    colour_remedy: str = f"set encoding to colours, let option labels match the maps of ids, or {EXPORT}"

    def __init__(
        self,
        root: str | Path | None,
        split: str,
        domain: str,
        images: str = "",
        labels: str = "",
        pairs: str = "",
        classes: Classes | None = None,
        ids: str | Path | Mapping[int | str, int | str] | None = None,
        offset: int | None = None,
        encoding: Literal["ids", "colours"] = "ids",
        colour_distance: float = 0.0,
        uncovered: str = "ignore",
        target: ClassList = CITYSCAPES,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        drawn = labels.endswith(OUTLINES)
        for option, pattern, suffixes in (("images", images, PICTURES), ("labels", labels, LABELS + OUTLINES)):
            starred = "*" in pattern or (drawn and option == "labels")
            if pattern if pairs else not (starred and pattern.endswith(suffixes)):
                ends = f"{' or '.join(suffixes)}, and save files of other kinds as one of these"
                remedy = f"write a pattern with * that ends in {ends}; or give pairs alone, without images and labels"
                raise ValueError(f"{option} is {pattern!r}; {remedy}")
        if isinstance(classes, str) and Path(root or "", classes).is_file():
            classes = str(Path(root or "", classes))
        self.labelled_in = target if classes is None else class_list(classes)
        given = {} if ids is None else ids if isinstance(ids, Mapping) else _read_ids(root, Path(ids))
        forms = ["names"] if drawn else [encoding, "names"] if pairs else [encoding]
        self.meanings = Meanings(self.labelled_in, given, forms, offset)
        self.uncovered = self.meanings.train_id(uncovered)
        if self.uncovered < 0:
            raise ValueError(f"uncovered is {uncovered!r}; give {self.meanings.choices()}")
        table, names = self.meanings.ids, self.meanings.names
        self.key = tuple(self.meanings.colours.items()) if encoding == "colours" else ()
        self.distance = colour_distance
        self.coco = CocoLayout(images, labels, table, names=names) if drawn and "*" not in labels else None
        self.layouts = (self.coco or (PairList("", pairs, table) if pairs else Layout(images, labels, table)),)
        scored = sorted(set(table.values()) - {IGNORE})
        self.scored_classes = [self.labelled_in[k] for k in scored] or self.labelled_in
        super().__init__(root, split, domain, on_bad_sample)
        if forms != ["ids"]:
            self.code += str((self.key, self.distance, names, self.uncovered)).encode()

    def read_label(self, index: int) -> Array:
        """Return the label of a sample: (H, W) uint8 train ids or IGNORE.

        Raises:
            ValueError: The file is damaged, or an id, colour or name in it has no meaning.
        """
        path = self.pairs[index][1]
        if path.suffix.lower() in OUTLINES:
            outlines = self.coco.drawn[self.names[index]] if self.coco else read_outlines(path)
            return outlines.draw(self.meanings.names, self.uncovered, path)
        if self.key:
            return colours_to_train_ids(read_coloured_label(path), self.key, self.distance, path)
        return super().read_label(index)


def _read_ids(root: str | Path | None, path: Path) -> Mapping[int | str, int | str]:
    found = find(root, path, f"ids {LINES}")
    try:
        ids = yaml.safe_load(found.read_text())
    except (yaml.YAMLError, ValueError, RecursionError):
        ids = None
    if not isinstance(ids, Mapping):
        raise ValueError(f"{found} is no mapping in YAML; write it {LINES}")
    return ids
