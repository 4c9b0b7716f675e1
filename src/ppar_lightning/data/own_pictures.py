"""The user's own pictures, without labels: files, folders, globs and videos."""

import glob
from collections import Counter
from collections.abc import Sequence, Set
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.decoding import PICTURES, Array, read_image

VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})

GAP = 100
"""A video ends where this many frames in a row cannot be decoded."""

DOMAIN = "pictures"
"""Name of the domain of all pictures."""


class Found(NamedTuple):
    """A picture file or a video frame."""

    path: Path
    base: Path
    """The folder that was searched; names are paths below it."""
    frame: int | None = None

    def name(self, full: bool = False) -> str:
        """Return the path below the base and, for a frame, its number; ``full`` adds the base's name and the suffix."""
        below = self.path.relative_to(self.base)
        name = (self.base.resolve().name / below if full else below.with_suffix("")).as_posix()
        return name if self.frame is None else f"{name}/{self.frame:06d}"


class PictureDataset(SegmentationDataset):
    """Pictures to segment; their labels are all IGNORE.

    Attributes:
        found: The pictures.
        names: Path of each picture's label map, without suffix. If two would be equal, both keep the suffix of their
            picture (``a.jpg`` and ``a.png`` in one folder), after the name of the searched folder.

    Args:
        places: Files, globs, and folders, which are searched. A picture that is found twice is used once.

    Raises:
        FileNotFoundError: A place holds no picture.
        ValueError: Two pictures would still have the same name.
    """

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__("predict", DOMAIN)
        found = {(each.path.absolute(), each.frame): each for place in places for each in find(place)}
        self.found = list(found.values())
        self._video: cv2.VideoCapture | None = None  # the one that this process read last, from beginning to end
        self._next = Path(), 0  # its path, and the number of the frame that is decoded next
        short = [each.name() for each in self.found]
        count = Counter(short)
        self.names = [each.name(full=count[name] > 1) for name, each in zip(short, self.found, strict=True)]
        paths: dict[str, Path] = {}
        for name, each in zip(self.names, self.found, strict=True):
            if (other := paths.setdefault(name, each.path)) is not each.path:
                raise ValueError(f"{other} and {each.path} would both be written as {name}.png: predict one at a time")

    def __len__(self) -> int:
        """Number of pictures and frames."""
        return len(self.found)

    def leave_out(self, names: Set[str]) -> None:
        """Remove pictures by name."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        self.found, self.names = [self.found[i] for i in kept], [self.names[i] for i in kept]

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Decode a picture, turned upright as its orientation tag says, or a frame.

        Raises:
            ValueError: The file is damaged.
        """
        path, _, frame = self.found[index]
        image = read_image(path) if frame is None else self._read_frame(path, frame)
        return image, np.full(image.shape[:2], IGNORE, dtype=np.uint8), self.names[index]

    def _read_frame(self, path: Path, frame: int) -> Array:
        if self._video is None or path != self._next[0] or frame < self._next[1]:
            self._video, self._next = cv2.VideoCapture(str(path)), (path, 0)
        for _ in range(self._next[1], frame):
            self._video.grab()
        success, image = self._video.read()
        self._next = path, frame + 1
        if not success:
            raise ValueError(f"{path}: frame {frame} cannot be decoded; convert the video again")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def find(place: str) -> list[Found]:
    """Find the pictures of one place, in the order of their names, and report how many other files there are.

    Hidden files are ignored.

    Raises:
        FileNotFoundError: There is no picture.
    """
    path, kinds = Path(place), VIDEOS.union(PICTURES)
    if path.is_file():  # a file that the user names is a picture, whatever its suffix
        return _found(path, path.parent)
    fixed = takewhile(lambda part: not glob.has_magic(part), path.parts[:-1])
    base = path if path.is_dir() else Path(*fixed)
    below = path.rglob("*") if path.is_dir() else map(Path, glob.iglob(place, recursive=True))  # noqa: PTH207
    shown = (each for each in below if "/." not in f"/{each.relative_to(base).as_posix()}")
    files = sorted(each for each in shown if each.is_file())
    others = Counter(file.suffix or "no suffix" for file in files if file.suffix.lower() not in kinds)
    if others.total() == len(files):
        raise FileNotFoundError(f"no pictures in {place}: give a file, folder or glob of {', '.join(PICTURES)}")
    if others:
        rank_zero_info(f"{place}: {others.total()} other files ({', '.join(sorted(others))}) are ignored")
    return [each for file in files if file.suffix.lower() in kinds for each in _found(file, base)]


def _found(path: Path, base: Path) -> list[Found]:
    """Return a picture, or the frames of a video."""
    if path.suffix.lower() not in VIDEOS:
        return [Found(path, base)]
    return [Found(path, base, frame) for frame in range(max(1, count_frames(path)))]


def count_frames(path: Path) -> int:
    """Count the frames of a video up to the last that can be decoded; what its header states is not reliable."""
    video, passed, count = cv2.VideoCapture(str(path)), 0, 0
    while passed < count + GAP:
        passed += 1
        if video.grab():
            count = passed
    return count
