"""Where a download keeps its images and labels."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)


@dataclass(frozen=True)
class Layout:
    """Paths of images and labels under the root, and what the labels hold.

    In both paths `{split}` stands for the split and `*` for a sample's name, the same in both. The last `*` takes in
    folders, an earlier one a folder or part of it. Images may also be .jpg where the download has .png, and the other
    way round.
    """

    images: str
    labels: str
    ids: Mapping[int, int]
    """Label id -> train id, for every id that the files may hold."""
    beside: str = ""
    """Ending of names that lie among the labels and are something else."""

    def files(self, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and labels by name, in the order of the names.

        Raises:
            ValueError: two files are the same sample.
        """
        found = _matches(root, self.labels.replace("{split}", split), LABEL_SUFFIXES)
        labels = _by_name((name, path) for name, path in found if not (self.beside and name.endswith(self.beside)))
        others = set(labels.values())  # images and labels may share a folder
        found = _matches(root, self.images.replace("{split}", split), IMAGE_SUFFIXES)
        return _by_name((name, path) for name, path in found if path not in others), labels

    def expected(self, split: str) -> str:
        """The layout in words."""
        return f"{self.images} and {self.labels}".replace("{split}", split)


def unpaired(images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[str]:
    """List the files without a counterpart, a line each."""
    lonely = [f"{path} has no label" for name, path in images.items() if name not in labels]
    return lonely + [f"{path} has no image" for name, path in labels.items() if name not in images]


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
            hidden = filename.startswith(".")  # such as what macOS keeps beside a file on other disks
            if match and not hidden and f".{suffix.lower()}" in suffixes:
                yield "/".join(match.groups()), Path(parent, filename)


def _is_loop(folder: Path) -> bool:
    """Whether a folder is a link to one that it lies in, whose files would be found over and over."""
    return folder.is_symlink() and any(folder.samefile(above) for above in folder.parents)


def _by_name(found: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name, path in found:
        if name in files:
            raise ValueError(f"{files[name]} and {path} are one sample; remove one of them")
        files[name] = path
    return dict(sorted(files.items()))
