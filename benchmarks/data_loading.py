"""Images per second of the training pipeline and of a plain ``cv2.imread``: ``python benchmarks/data_loading.py``.

One core reads each pair of image and label with ``cv2.imread``, then through a worker's pipeline: decoding,
augmentation and collation. Flip, colours and blur run on the device; their time is printed separately. The two
variants take turns image by image, and their time is that of the processor, so that other load on the machine disturbs
little. Files of each format are written from rendered streets with camera noise, in the format of the data set's
download; real files are read if they are there.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image
from rich.console import Console
from rich.table import Table

from ppar_lightning.data.dataset import FolderDataset, Sample
from ppar_lightning.data.datasets import DATASETS
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.loading import collate, on_device
from ppar_lightning.data.transforms import DEFAULT_AUGMENTATION, Augment
from ppar_lightning.images.decoding import Array
from ppar_lightning.streets.render import render

LABEL_IDS = np.zeros(256, dtype=np.uint8)
LABEL_IDS[list(shipped_ids("cityscapes").values())] = list(shipped_ids("cityscapes"))

BOUNDS = {"PNG": 1.08, "JPEG": 1.25}
"""Format of the images -> largest accepted ratio of the pipeline's time to that of plain reading."""


def streets(count: int, width: int, height: int) -> list[tuple[Array, Array]]:
    """Render images with noise, and their train ids."""
    pairs = []
    for index in range(count):
        scene = render(0, index, "city", (height // 2, width // 2))
        image = cv2.resize(scene.image, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = np.random.default_rng(index).normal(0, 2, image.shape)
        label = cv2.resize(scene.label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        pairs.append(((image + noise).clip(0, 255).astype(np.uint8), np.asarray(label, dtype=np.uint8)))
    return pairs


def write(image: Path, label: Path, pair: tuple[Array, Array], palette: bool = False) -> None:
    """Write an image and its label; with a palette the label is a PNG of mode P."""
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if image.suffix == ".jpg" else []
    cv2.imwrite(str(image), cv2.cvtColor(pair[0], cv2.COLOR_RGB2BGR), quality)
    picture = Image.fromarray(pair[1])
    if palette:
        picture.putpalette(list(range(256)) * 3)
    picture.save(label)


def generated(root: Path, count: int) -> dict[str, FolderDataset]:
    """Write the three formats and open them."""
    for i, (image, label) in enumerate(streets(count, 1914, 1052)):
        write(root / f"gta/images/{i}.png", root / f"gta/labels/{i}.png", (image, LABEL_IDS[label]), palette=True)
    for i, (image, label) in enumerate(streets(count, 2048, 1024)):
        ends = (f"leftImg8bit/val/a/{i}_leftImg8bit.png", f"gtFine/val/a/{i}_gtFine_labelIds.png")
        write(root / "city" / ends[0], root / "city" / ends[1], (image, LABEL_IDS[label]))
    for i, pair in enumerate(streets(count, 1280, 720)):
        write(root / f"bdd/images/10k/val/{i}.jpg", root / f"bdd/labels/sem_seg/masks/val/{i}.png", pair)
    return {
        "PNG 1914x1052 P": open_folder("gta", root / "gta", "all"),
        "PNG 2048x1024": open_folder("cityscapes", root / "city", "val"),
        "JPEG 1280x720": open_folder("bdd100k", root / "bdd", "val"),
    }


def real(root: Path) -> dict[str, FolderDataset]:
    """Open the real data sets that exist on this machine."""
    known = {"gta5": ("gta", "all"), "cityscapes": ("cityscapes", "val"), "bdd100k": ("bdd100k", "val")}
    return {
        f"{folder}, real": open_folder(key, root / folder, split)
        for folder, (key, split) in known.items()
        if (root / folder).is_dir()
    }


def open_folder(key: str, root: Path, split: str) -> FolderDataset:
    """Open a data set of files."""
    dataset = DATASETS[key](root=root, split=split, domain=key)
    assert isinstance(dataset, FolderDataset)
    return dataset


def measure(dataset: FolderDataset, augment: Augment, turns: int) -> dict[str, list[float]]:
    """Time plain reading and the parts of the pipeline in turn; return the seconds of each image by part."""
    seconds: dict[str, list[float]] = {part: [] for part in ("floor", "decode", "augment", "rest")}
    for turn in range(turns + 1):
        for index in range(min(len(dataset), 8)):
            image, label = dataset.pairs[index]
            times = [time.process_time()]
            cv2.imread(str(image))
            cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
            times.append(time.process_time())
            sample = dataset[index]
            times.append(time.process_time())
            sample = augment(sample, (turn, index))
            times.append(time.process_time())
            collate([sample])
            times.append(time.process_time())
            if turn > 0:  # the first one warms up
                for part, start, end in zip(seconds, times[:-1], times[1:], strict=True):
                    seconds[part].append(end - start)
    return seconds


def row(name: str, seconds: dict[str, list[float]]) -> list[str]:
    """Format medians in milliseconds, images per second of pipeline and plain reading, and their ratio."""
    medians = {part: 1000 * statistics.median(values) for part, values in seconds.items()}
    floor, *parts = seconds.values()
    totals = [sum(each) for each in zip(*parts, strict=True)]
    ratio = statistics.median(totals) / statistics.median(floor)
    rates = [f"{1 / statistics.median(values):.1f}" for values in (totals, floor)]
    return [name, *(f"{value:.1f}" for value in medians.values()), *rates, f"{ratio:.2f}"]


def measure_device(crop: int, device: torch.device, batch_size: int = 4, turns: int = 10) -> float:
    """Time flip, colours and blur of a batch; return milliseconds per image, including the move to the device."""
    augment = Augment((crop, crop), dataclasses.replace(DEFAULT_AUGMENTATION, jitter=1.0, blur=1.0))
    pair = dict(zip(("image", "label"), streets(1, 1280, 720)[0], strict=True))
    sample: Sample = {"image": pair["image"], "label": pair["label"], "name": "a", "domain": "d", "error": []}
    batch = collate([augment(sample, (index,)) for index in range(batch_size)])
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        on_device(move_data_to_device(batch, device))["image"].sum().item()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds) / batch_size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of real data sets")
    parser.add_argument("--crop", type=int, default=768)
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    augment = Augment((options.crop, options.crop), DEFAULT_AUGMENTATION)
    table = Table(title=f"one core, crop {options.crop}: milliseconds, images per second, ratio (at most {BOUNDS})")
    for column in ("format", "imread", "decode", "augment", "rest", "images/s", "imread/s", "ratio"):
        table.add_column(column, justify="left" if column == "format" else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset in (generated(Path(folder), 4) | real(options.data)).items():
            table.add_row(*row(name, measure(dataset, augment, options.turns)))
    console = Console()
    console.print(table)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console.print(
        f"flip, colours and blur on {device}, every image: {measure_device(options.crop, device):.1f} ms an image"
    )


if __name__ == "__main__":
    main()
