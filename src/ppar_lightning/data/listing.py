"""Files that list the samples of a data set: pairs in a CSV file, images and their objects in a file of COCO."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ppar_lightning.data.layout import Layout, by_name
from ppar_lightning.data.outlines import Outlines, read_coco, refuse_unknown


def find(root: str | Path | None, path: str | Path, write: str) -> Path:
    """Find a file that an option names, under the root or else here.

    Raises:
        FileNotFoundError: It is neither there nor here.
    """
    found = next((file for file in (Path(root or "", path), Path(path)) if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"file {path} not found, neither in {root} nor here; write {write}")
    return found


@dataclass(frozen=True)
class PairList(Layout):
    """Pairs that a CSV file lists, in columns `image`, `label` and, as far as wanted, `split`.

    Paths are relative to the root; the path of the image without suffix is the sample's name. `labels` is the file.
    """

    def files(self, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return images and labels of the rows of a split by name; without column `split`, of all rows.

        Raises:
            FileNotFoundError: The CSV file is not there.
            ValueError: It is no list of pairs, or two rows have the same name.
        """
        path = find(root, self.labels, "a CSV file with the columns image,label")
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            rows = [*csv.DictReader(lines)]
        if not rows or not all(row.get("image") and row.get("label") and row.get("split", split) for row in rows):
            raise ValueError(f"{path}: a field is missing; begin with a line image,label and fill each row")
        rows = [row for row in rows if row.get("split", split) == split]
        names = [os.path.normpath(Path(row["image"]).with_suffix("")).lstrip("./") for row in rows]
        labels = by_name((name, root / row["label"]) for name, row in zip(names, rows, strict=True))
        images = by_name((name, root / row["image"]) for name, row in zip(names, rows, strict=True))
        there = {name: label for name, label in labels.items() if label.is_file()}
        return {name: image for name, image in images.items() if image.is_file() or name not in there}, there

    def expected(self, split: str) -> str:
        """Return where the pairs are, for messages."""
        return f"pairs of split {split!r} in {self.labels}"


@dataclass(frozen=True)
class CocoLayout(Layout):
    """Images of a pattern whose objects are in one file of COCO, which names them by file name or path.

    Attributes:
        drawn: Name of each sample -> its objects, once the files have been looked for.
        names: Name of an object -> train id or IGNORE.
    """

    names: Mapping[str, int] = field(default_factory=dict)
    drawn: dict[str, Outlines] = field(default_factory=dict)

    def files(self, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return the images by name, and the file of COCO for each that it lists.

        Raises:
            FileNotFoundError: The file of COCO is not there.
            ValueError: It is none, it has a name without a train id, or two images have the same name.
        """
        path = find(root, self.labels.replace("{split}", split), "a file of COCO, or a pattern with *")
        images = self.find_images(root, split)
        names = {f"{name}{image.suffix}": name for name, image in images.items()}
        names |= {image.relative_to(root).as_posix(): name for name, image in images.items()}
        listed = read_coco(path)
        refuse_unknown((name for each in listed.values() for name, _ in each.objects), self.names, path)
        self.drawn.update({names.get(file, file): objects for file, objects in listed.items()})
        return images, {name: path if name in images else path / name for name in self.drawn}
