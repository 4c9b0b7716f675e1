"""Small trees in the exact layouts of the data sets, as a download leaves them."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (48, 80)
"""Rows and columns of an image unless told otherwise."""
DAY = ("day", "night")


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


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def gta5(
    root: Path,
    count: int = 10,
    ids: Iterable[int] = range(35),
    split_mat: bool = True,
    raw: bool = True,
    train_ids: int = 0,
) -> Path:
    """Frames 00001 to count: the first half for training, then validation, the last for testing.

    The first `train_ids` of them have a label of train ids, beside the raw one or in its place.
    """
    for number in range(1, count + 1):
        write_image(root / f"images/{number:05d}.png")
        if raw:
            write_label(root / f"labels/{number:05d}.png", stripes(ids), palette=True)
        if number <= train_ids:
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


def synthia(root: Path, count: int = 10, ids: Iterable[int] = range(23), lists: bool = False) -> Path:
    """Frames 0000000 to count - 1; with lists, the even ones are for training."""
    for number in range(count):
        write_image(root / f"RGB/{number:07d}.png")
        path = root / f"GT/LABELS/{number:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        instances = np.full(SIZE, 300 + number, np.uint16)  # what the download keeps in green
        red = stripes(ids).astype(np.uint16)
        cv2.imwrite(str(path), np.stack([np.zeros_like(red), instances, red], axis=2))
        write_image(root / f"GT/COLOR/{number:07d}.png")
    for split, first in (("train", 0), ("val", 1)) if lists else ():
        names = [f"{number:07d}.png\n" for number in range(first, count, 2)]
        (root / f"synthia_split_{split}.txt").write_text("".join(names))
    return root


def idd(root: Path, counts: Mapping[str, int] = {"train": 6, "val": 3}) -> Path:
    """Frames of one number in several drives, and the polygons that the labels are made of."""
    for split, count in counts.items():
        for number in range(count):
            stem = f"{split}/{number}/000042"
            write_image(root / f"leftImg8bit/{stem}_leftImg8bit.png")
            write_label(root / f"gtFine/{stem}_gtFine_labelcsTrainIds.png", stripes((*range(19), 255)))
            (root / f"gtFine/{stem}_gtFine_polygons.json").write_text("{}")
    return root


def acdc(
    root: Path,
    counts: Mapping[str, int] = {"train": 2, "val": 1},
    conditions: Iterable[str] = ("fog", "night", "rain", "snow"),
    zips: bool = False,
    kinds: Iterable[str] = ("labelTrainIds", "labelIds"),
) -> Path:
    """Every condition has reference images, a test split without labels, and further files beside the labels."""
    images, labels = (root / "rgb_anon_trainvaltest", root / "gt_trainval") if zips else (root, root)
    ids = {"labelTrainIds": (*range(19), 255), "labelIds": (*range(34), 255)}
    for condition in conditions:
        for split, count in {**counts, "test": 1}.items():
            for number in range(count):
                stem = f"{condition}/{split}/GOPR0{number}/GOPR0{number}_frame_000001"
                write_image(images / f"rgb_anon/{stem}_rgb_anon.png")
                reference = stem.replace(f"/{split}/", f"/{split}_ref/")
                write_image(images / f"rgb_anon/{reference}_rgb_ref_anon.png")
                if split == "test":
                    continue
                for kind in kinds:
                    write_label(labels / f"gt/{stem}_gt_{kind}.png", stripes(ids[kind]))
                write_label(labels / f"gt/{stem}_gt_invIds.png", stripes([0, 1]))
                write_image(labels / f"gt/{stem}_gt_labelColor.png")
                write_label(labels / f"gt/{reference}_gt_ref_labelTrainIds.png", stripes([3]))
    return root


def dark_zurich(root: Path, count: int = 3) -> Path:
    for number in range(count):
        stem = f"val/night/GOPR0356/GOPR0356_frame_{number:06d}"
        write_image(root / f"rgb_anon/{stem}_rgb_anon.png")
        write_image(root / f"rgb_anon/val_ref/day/GOPR0356_ref/GOPR0356_frame_{number:06d}_ref_rgb_anon.png")
        for kind, ids in (("labelTrainIds", (*range(19), 255)), ("labelIds", range(34)), ("invIds", (0, 1))):
            write_label(root / f"gt/{stem}_gt_{kind}.png", stripes(ids))
        write_image(root / f"gt/{stem}_gt_labelColor.png")
    return root


def nighttime_driving(root: Path, count: int = 3, kinds: Iterable[str] = ("labelTrainIds", "labelIds")) -> Path:
    for number in range(count):
        stem = f"test/night/0_frame_{number:04d}"
        write_image(root / f"leftImg8bit/{stem}_leftImg8bit.png")
        for kind in kinds:
            ids = (*range(19), 255) if kind == "labelTrainIds" else range(34)
            write_label(root / f"gtCoarse_daytime_trainvaltest/{stem}_gtCoarse_{kind}.png", stripes(ids))
        write_image(root / f"gtCoarse_daytime_trainvaltest/{stem}_gtCoarse_color.png")
    return root


def foggy_zurich(root: Path, count: int = 3, kinds: Iterable[str] = ("labelTrainIds", "labelIds")) -> Path:
    """Frames with labels, the first of which is also in the older list, and as many without."""
    for number in range(2 * count):
        name = f"GOPR0229/1508040913.0_frame_{number:06d}.png"
        write_image(root / "RGB" / name)
        for kind in kinds if number < count else ():
            ids = (*range(19), 255) if kind == "labelTrainIds" else range(34)
            write_label(root / f"gt_{kind}" / name, stripes(ids))
    for split, first, last in (("testv1", 0, 1), ("testv2", 0, count), ("light", count, 2 * count)):
        lines = [f"RGB/GOPR0229/1508040913.0_frame_{number:06d}.png\n" for number in range(first, last)]
        _write(root / f"lists_file_names/RGB_{split}_filenames.txt", "".join(lines))
    return root


def foggy_driving(root: Path, fine: int = 2, coarse: int = 3) -> Path:
    """Finely labelled images, then coarsely labelled ones, of which the last is in dense fog."""
    files = [("test", "gtFine", f"public/public_{number:05d}_00000{number}") for number in range(fine)]
    files += [("test_extra", "gtCoarse", f"web/web_{number:05d}_00000{number}") for number in range(coarse)]
    lines = []
    for split, folder, stem in files:
        lines.append(f"leftImg8bit/{split}/{stem}_leftImg8bit.png\n")
        write_image(root / lines[-1].strip())
        write_label(root / f"{folder}/{split}/{stem}_{folder}_labelTrainIds.png", stripes((*range(19), 255)))
        write_label(root / f"{folder}/{split}/{stem}_{folder}_labelIds.png", stripes(range(34)))
    for split, listed in (("all", lines), ("fine", lines[:fine]), ("dense", lines[-1:])):
        _write(root / f"lists_file_names/leftImg8bit_test{split}_filenames.txt", "".join(listed))
    return root


def muses(
    root: Path,
    counts: Mapping[str, int] = {"train": 2, "val": 1},
    conditions: Iterable[str] = tuple(f"{sky}/{time}" for sky in ("clear", "fog", "rain", "snow") for time in DAY),
    top: str = "",
    kinds: Iterable[str] = ("labelTrainIds", "labelIds"),
) -> Path:
    """Frames of one number under every condition; those of `test` have no labels."""
    for condition in conditions:
        for split, count in {**counts, "test": 1}.items():
            for number in range(count):
                stem = f"{split}/{condition}/REC0006_frame_{number:06d}"
                write_image(root / top / f"frame_camera/{stem}_frame_camera.png")
                for kind in kinds if split in counts else ():
                    ids = (*range(19), 255) if kind == "labelTrainIds" else range(34)
                    write_label(root / top / f"gt_semantic/{stem}_gt_{kind}.png", stripes(ids))
    return root


def wilddash2(root: Path, count: int = 3, ids: Iterable[int] = range(39)) -> Path:
    """One segment for each category, numbered from the image's own first number on; a last stripe has none."""
    listed: dict[str, list] = {"images": [], "annotations": []}
    for number in range(count):
        name, first = f"aa{number:04d}_100000", 65530 + 1000 * number  # in the second and the third channel too
        write_image(root / f"images/{name}.jpg")
        segments = [{"id": first + place, "category_id": category} for place, category in enumerate(ids)]
        drawn = np.append([each["id"] for each in segments], 0)
        colours = np.stack([drawn % 256, drawn // 256 % 256, drawn // 65536], axis=-1).astype(np.uint8)
        write_label(root / f"panoptic/{name}.png", colours[stripes(range(len(drawn)))])
        listed["images"].append({"id": number, "file_name": f"{name}.jpg"})
        entry = {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        listed["annotations"].append(entry)
    _write(root / "panoptic.json", json.dumps(listed))
    return root


def urbansyn(root: Path, count: int = 3) -> Path:
    for number in range(1, count + 1):
        write_image(root / f"rgb/rgb_{number:04d}.png")
        write_label(root / f"ss/ss_{number:04d}.png", stripes(range(20)))
        write_image(root / f"ss_color/ss_color_{number:04d}.png")
    return root


def kitti(root: Path, count: int = 3, scene_flow: bool = False) -> Path:
    """With scene flow's second frames in the same folder, if asked for."""
    for number in range(count):
        name = f"{number:06d}_10.png"
        write_image(root / "training/image_2" / name)
        write_label(root / "training/semantic" / name, stripes(range(34)))
        write_image(root / "training/semantic_rgb" / name)
        write_label(root / "training/instance" / name, stripes(range(34)))
        write_image(root / "testing/image_2" / name)
        if scene_flow:
            write_image(root / f"training/image_2/{number:06d}_11.png")
    return root


TREES: Mapping[str, Callable[..., Path]] = {
    "gta": gta5,
    "synthia": synthia,
    "urbansyn": urbansyn,
    "cityscapes": cityscapes,
    "bdd100k": bdd100k,
    "mapillary": mapillary,
    "idd": idd,
    "acdc": acdc,
    **{f"acdc_{condition}": partial(acdc, conditions=[condition]) for condition in ("fog", "night", "rain", "snow")},
    "dark_zurich": dark_zurich,
    "nighttime_driving": nighttime_driving,
    "foggy_zurich": foggy_zurich,
    "foggy_driving": foggy_driving,
    "muses": muses,
    "wilddash2": wilddash2,
    "kitti": kitti,
    "camvid": camvid,
}
"""Data set -> what writes a small one of it into a folder, and returns the folder."""
