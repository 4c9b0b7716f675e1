"""Small trees in the exact layouts of the data sets, as a download leaves them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (48, 80)
"""Rows and columns of an image unless told otherwise."""


def stripes(ids: Iterable[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A label map of vertical stripes, one for each id from left to right."""
    ids = np.array(list(ids))
    return np.tile(ids[np.arange(size[1]) * len(ids) // size[1]], (size[0], 1)).astype(np.uint8)


def write_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    """A blurred picture of noise that depends on the file's name alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.stem.encode())).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC))


def write_label(path: Path, label: np.ndarray, palette: bool = False) -> None:
    """A PNG of ids: greyscale, or of mode P with a palette that has nothing to do with the ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label)
    if palette:
        image.putpalette([(7 * value + 3) % 256 for value in range(768)])
    image.save(path)


def gta5(
    root: Path, count: int = 10, ids: Iterable[int] = range(35), split_mat: bool = True, train_ids: bool = False
) -> Path:
    """Frames 00001 to count: the first half for training, then validation, the last for testing."""
    for number in range(1, count + 1):
        write_image(root / f"images/{number:05d}.png")
        write_label(root / f"labels/{number:05d}.png", stripes(ids), palette=True)
        if train_ids:
            write_label(root / f"labels/{number:05d}_labelTrainIds.png", stripes((*range(19), 255)))
    if split_mat:
        train, val, test = np.split(np.arange(1, count + 1)[:, None], [count // 2, count - 1])
        savemat(root / "split.mat", {"trainIds": train, "valIds": val, "testIds": test})
    return root


def cityscapes(
    root: Path,
    counts: Mapping[str, int] = {"train": 6, "val": 3},
    ids: Iterable[int] = (*range(34), 255),
    kind: str = "labelIds",
    suffix: str = ".png",
) -> Path:
    for split, count in counts.items():
        for number in range(count):
            city = "aachen" if number % 2 else "bochum"
            stem = f"{split}/{city}/{city}_{number:06d}_000019"
            write_image(root / f"leftImg8bit/{stem}_leftImg8bit{suffix}")
            write_label(root / f"gtFine/{stem}_gtFine_{kind}.png", stripes(ids))
            write_label(root / f"gtFine/{stem}_gtFine_instanceIds.png", stripes(ids))
    return root


def bdd100k(root: Path, counts: Mapping[str, int] = {"train": 6, "val": 3}, old: bool = False) -> Path:
    images, labels = ("images/{}", "labels/{}") if old else ("images/10k/{}", "labels/sem_seg/masks/{}")
    for split, count in counts.items():
        for number in range(count):
            write_image(root / images.format(split) / f"{number:08x}-{split}.jpg")
            name = f"{number:08x}-{split}" + ("_train_id" if old else "")
            write_label(root / labels.format(split) / f"{name}.png", stripes((*range(19), 255)))
    return root


def mapillary(root: Path, counts: Mapping[str, int] = {"training": 6, "validation": 3}, nested: bool = False) -> Path:
    """Every second image is portrait."""
    for split, count in counts.items():
        for number in range(count):
            size = SIZE[::-1] if number % 2 else SIZE
            write_image(root / split / "images" / f"{split}_{number}.jpg", size)
            folder = root / split / ("v1.2/labels" if nested else "labels")
            write_label(folder / f"{split}_{number}.png", stripes(range(66), size), palette=True)
    return root


def camvid(root: Path, counts: Mapping[str, int] = {"train": 6, "val": 3, "test": 3}) -> Path:
    for split, count in counts.items():
        for number in range(count):
            write_image(root / split / f"0001TP_{number:06d}.png")
            write_label(root / f"{split}annot" / f"0001TP_{number:06d}.png", stripes(range(12)))
    return root


TREES: Mapping[str, Callable[..., Path]] = {
    "gta": gta5,
    "cityscapes": cityscapes,
    "bdd100k": bdd100k,
    "mapillary": mapillary,
    "camvid": camvid,
}
"""Data set -> what writes a small one of it into a folder, and returns the folder."""
