"""A user's own pictures, without labels: files, folders, globs and videos."""

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ppar_lightning.data.classes import IGNORE
from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.data.decoding import Array, read_image

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})

DOMAIN = "pictures"
"""Name of their domain."""


class Found(NamedTuple):
    """A picture, or a frame of a video."""

    path: Path
    name: str
    """Its path below the folder that was asked for, without suffix; of a frame, that of its video and its number."""
    frame: int | None = None


class PictureDataset(SegmentationDataset):
    """Pictures to be segmented; their labels are all IGNORE.

    Args:
        places: files, folders, which are searched through, and globs.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: two pictures would have one name.
    """

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__("predict", DOMAIN)
        self.found = [found for place in places for found in find(place)]
        name, count = Counter(found.name for found in self.found).most_common(1)[0]
        if count > 1:
            paths = [str(found.path) for found in self.found if found.name == name]
            raise ValueError(f"{paths[0]} and {paths[1]} would both be written as {name}.png: give one at a time")

    def __len__(self) -> int:
        """Number of pictures and frames."""
        return len(self.found)

    def name(self, index: int) -> str:
        """Path of what is written, without suffix."""
        return self.found[index].name

    def read(self, index: int) -> tuple[Array, Array, str]:
        """Decode a picture, upright by its orientation tag.

        Raises:
            ValueError: a damaged file.
        """
        path, name, frame = self.found[index]
        image = read_image(path, upright=True) if frame is None else read_frame(path, frame)
        return image, np.full(image.shape[:2], IGNORE, dtype=np.uint8), name


def find(place: str) -> list[Found]:
    """Find the pictures of one place, by name.

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
    found = [each for file in files for each in _found(file, base, named=path.is_file())]
    if not found:
        raise FileNotFoundError(
            f"no pictures in {place}: give a file, a folder or a glob of {', '.join(sorted(PICTURES))}"
        )
    return found


def _found(path: Path, base: Path, named: bool) -> Iterator[Found]:
    """A picture, the frames of a video, or nothing; a file that was named is taken for a picture."""
    name = path.relative_to(base).with_suffix("").as_posix()
    if path.suffix.lower() in VIDEOS:
        frames = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))
        yield from (Found(path, f"{name}/{frame:06d}", frame) for frame in range(max(1, frames)))
    elif named or path.suffix.lower() in PICTURES:
        yield Found(path, name)


def _fixed_part(pattern: Path) -> Path:
    """The folder of a glob before its first wildcard."""
    parts = pattern.parts
    wild = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:wild])


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
