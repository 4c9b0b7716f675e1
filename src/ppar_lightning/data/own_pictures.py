"""A user's own pictures, without labels: files, folders, globs and videos."""

import glob
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.decoding import Array, read_image

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})

DOMAIN = "pictures"
"""Name of their domain."""


class Found(NamedTuple):
    """A picture, or a frame of a video."""

    path: Path
    base: Path
    """The folder that was searched through; names are paths below it."""
    frame: int | None = None

    def name(self, suffix: bool = False, base: bool = False) -> str:
        """Path below the base, of a frame with its number, on request with suffix and the base's own name."""
        below = self.path.relative_to(self.base)
        parts = [self.base.resolve().name] * base + [(below if suffix else below.with_suffix("")).as_posix()]
        return "/".join(parts if self.frame is None else [*parts, f"{self.frame:06d}"])


class PictureDataset(SegmentationDataset):
    """Pictures to be segmented; their labels are all IGNORE.

    Attributes:
        found: The pictures.
        names: Of each, the path of what is written, without suffix. Where two would have the same, they keep their
            suffix (``a.jpg`` and ``a.png`` in a folder), or take the name of the folder that was searched before it.

    Args:
        places: files, folders, which are searched through, and globs; a picture that is found twice is taken once.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: two pictures would have one name all the same.
    """

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__("predict", DOMAIN)
        found = {(each.path.absolute(), each.frame): each for place in places for each in find(place)}
        self.found = list(found.values())
        self.names = [each.name() for each in self.found]
        for options in ({"suffix": True}, {"suffix": True, "base": True}):
            count = Counter(self.names)
            self.names = [
                name if count[name] == 1 else each.name(**options)
                for name, each in zip(self.names, self.found, strict=True)
            ]
        name, times = Counter(self.names).most_common(1)[0]
        if times > 1:
            paths = [str(each.path) for each, other in zip(self.found, self.names, strict=True) if other == name]
            raise ValueError(f"{paths[0]} and {paths[1]} would both be written as {name}.png: give one at a time")

    def __len__(self) -> int:
        """Number of pictures and frames."""
        return len(self.found)

    def name(self, index: int) -> str:
        """Path of what is written, without suffix."""
        return self.names[index]

    def leave_out(self, names: Set[str]) -> None:
        """Forget pictures, by name."""
        kept = [index for index, name in enumerate(self.names) if name not in names]
        self.found, self.names = [self.found[i] for i in kept], [self.names[i] for i in kept]

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Decode a picture, upright by its orientation tag.

        Raises:
            ValueError: a damaged file.
        """
        path, _, frame = self.found[index]
        image = read_image(path, upright=True) if frame is None else read_frame(path, frame)
        return image, np.full(image.shape[:2], IGNORE, dtype=np.uint8), self.names[index]


def find(place: str) -> list[Found]:
    """Find the pictures of one place, by name; say how many other files are left alone. Hidden files are not looked at.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(place)
    if path.is_dir():
        base, files = path, sorted(each for each in path.rglob("*") if each.is_file())
    elif path.is_file():
        base, files = path.parent, [path]
    else:
        files = sorted(Path(each) for each in glob.glob(place, recursive=True) if Path(each).is_file())  # noqa: PTH207
        base = _fixed_part(path)
    if not path.is_file():
        files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(base).parts)]
    found = [_found(file, base, named=path.is_file()) for file in files]
    others = Counter(file.suffix for file, each in zip(files, found, strict=True) if not each)
    if not any(found):
        raise FileNotFoundError(
            f"no pictures in {place}: give a file, a folder or a glob of {', '.join(sorted(PICTURES))}"
        )
    if others:
        kinds = ", ".join(sorted(suffix or "no suffix" for suffix in others))
        rank_zero_info(f"{place}: {others.total()} files that are no pictures ({kinds}) are left alone")
    return [each for frames in found for each in frames]


def _found(path: Path, base: Path, named: bool) -> list[Found]:
    """A picture, the frames of a video, or nothing; a file that was named is taken for a picture."""
    if path.suffix.lower() in VIDEOS:
        return [Found(path, base, frame) for frame in range(max(1, count_frames(path)))]
    return [Found(path, base)] if named or path.suffix.lower() in PICTURES else []


def _fixed_part(pattern: Path) -> Path:
    """The folder of a glob before its first wildcard."""
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:wild])


def count_frames(path: Path) -> int:
    """Take the number of frames that a video states, or count them where it states none."""
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if count <= 0:
        count = 0
        while video.grab():
            count += 1
    return count


def read_frame(path: Path, frame: int) -> Array:
    """Decode a frame of a video.

    Raises:
        ValueError: a damaged file.
    """
    video = cv2.VideoCapture(str(path))
    video.set(cv2.CAP_PROP_POS_FRAMES, frame)
    success, image = video.read()
    if not success:
        raise ValueError(f"{path}: frame {frame} cannot be decoded; convert the video again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
