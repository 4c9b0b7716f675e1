"""Paths of images and labels in a download, by patterns or by a list."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ppar_lightning.images.decoding import LOSSLESS, PICTURES

LABELS = tuple(suffix for suffixes in LOSSLESS.values() for suffix in suffixes)
"""Suffixes of label pictures."""

OUTLINES = (".json",)
"""Suffix of labels in JSON."""


@dataclass(frozen=True)
class Layout:
    """Paths of images and labels under the root, and what the labels hold.

    In both paths, `{split}` stands for the split and `*` for the sample's name, which must be the same in both. The
    last `*` may also match sub-folders; an earlier one matches a folder or a part of its name. A suffix stands for all
    of its kind: images may be .jpg instead of .png, and label pictures .tif.
    """

    images: str
    labels: str
    ids: Mapping[int, int]
    """Label id -> train id, for every id that may occur in the files."""
    beside: str = ""
    """Ending of file names that lie beside the labels but are not labels."""

    def files(self, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return images and labels by name, sorted by name.

        Raises:
            ValueError: Two files belong to the same sample.
        """
        kinds = OUTLINES if self.labels.endswith(OUTLINES) else LABELS
        found = _matches(root, self.labels.replace("{split}", split), kinds)
        labels = by_name((name, path) for name, path in found if not (self.beside and name.endswith(self.beside)))
        if self.images == self.labels:  # label maps without images
            return labels, labels
        return self.find_images(root, split, set(labels.values())), labels  # which may share a folder

    def find_images(self, root: Path, split: str, others: Set[Path] = frozenset()) -> dict[str, Path]:
        """Return the images without others by name, sorted by name.

        Raises:
            ValueError: Two files belong to the same sample.
        """
        found = _matches(root, self.images.replace("{split}", split), PICTURES)
        return by_name((name, path) for name, path in found if path not in others)

    def expected(self, split: str) -> str:
        """Return the two paths in one phrase, for messages."""
        return f"{self.images} and {self.labels}".replace("{split}", split)


def _matches(root: Path, pattern: str, suffixes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    *before, last, ending = pattern.rpartition(".")[0].split("*")
    name = re.compile("([^/]+)".join(map(re.escape, [*before, last])) + "(.+)" + re.escape(ending))
    start = root / pattern.partition("*")[0].rpartition("/")[0]
    for parent, folders, filenames in os.walk(start, followlinks=True):
        folders[:] = [each for each in folders if not _is_loop(Path(parent, each))]
        folder = Path(parent).relative_to(root).as_posix()
        for filename in filenames:
            stem, _, suffix = filename.rpartition(".")
            match = name.fullmatch(stem if folder == "." else f"{folder}/{stem}")
            hidden = filename.startswith(".")  # e.g. the ._ files of macOS
            if match and not hidden and f".{suffix.lower()}" in suffixes:
                yield "/".join(match.groups()), Path(parent, filename)


def _is_loop(folder: Path) -> bool:
    """Return whether a folder is a link to one of its parents, whose files would be found again and again."""
    return folder.is_symlink() and any(folder.samefile(above) for above in folder.parents)


def by_name(found: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Return files by their sample's name, sorted by name.

    Raises:
        ValueError: Two files belong to the same sample.
    """
    files: dict[str, Path] = {}
    for name, path in found:
        if name in files:
            raise ValueError(f"{files[name]} and {path} are one sample; remove one of them")
        files[name] = path
    return dict(sorted(files.items()))


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


def find(root: str | Path | None, path: str | Path, write: str) -> Path:
    """Find a file that an option names, under the root or else here.

    Raises:
        FileNotFoundError: It is neither there nor here.
    """
    found = next((file for file in (Path(root or "", path), Path(path)) if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"file {path} not found, neither in {root} nor here; write {write}")
    return found
