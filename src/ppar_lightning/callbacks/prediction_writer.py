"""The output of ``ppar predict``: label maps, overlays, confidence and class shares of the user's own pictures."""

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.data.loading import Prediction
from ppar_lightning.disk.files import write_whole
from ppar_lightning.distributed import gather
from ppar_lightning.images.classes import CITYSCAPES, ClassList
from ppar_lightning.images.decoding import read_label
from ppar_lightning.images.drawing import overlay, write_picture

SHARES = "shares.csv"

THREADS = 8
"""Largest number of pictures that are encoded and written at a time, while the next one is segmented."""


@dataclass(eq=False)
class PredictionWriter(L.Callback):
    """Write an indexed PNG of train ids in the colours of the classes for each picture, and further files on request.

    Names and sub-folders are those of the pictures: ``{folder}/{name}.png``, ``overlays/{name}.jpg``,
    ``confidence/{name}.png`` (255 is 1), and ``shares.csv`` with the share of each class in each map.
    Each file is written whole or not at all. The map of a picture comes last, so a picture with a map is complete.

    Args:
        folder: Folder of the maps; None means ``predictions`` in the run folder.
        overlay: Also write each picture with its map drawn over it.
        confidence: Also write the largest softmax probability of each pixel, as a grey picture.
        overwrite: Replace the files of an earlier prediction.
        skip_existing: Leave out pictures that already have a map, to continue a prediction that was stopped.
        opacity: Opacity of the map in overlays, in [0, 1].

    Raises:
        ValueError: The opacity is outside its range, or both overwrite and skip_existing are set.
    """

    folder: str | None = None
    overlay: bool = True
    confidence: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    opacity: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"predictions.opacity is {self.opacity}: give a value in [0, 1]")
        if self.overwrite and self.skip_existing:
            raise ValueError("--overwrite and --skip_existing contradict each other: give only one")
        self._root = Path()
        self._classes: ClassList = CITYSCAPES
        self._shares: dict[str, npt.NDArray[np.float64]] = {}
        self._pool: ThreadPoolExecutor
        self._writing: deque[Future[None]] = deque()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the folder before anything is written.

        Raises:
            FileExistsError: The folder already holds shares or a map of one of the pictures, or is a file.
            NotADirectoryError: The folder lies below a file.
            ValueError: The maps would lie among the pictures, or two files would have the same name.
        """
        if stage != "predict":
            return
        self._root = root = Path(self.folder or f"{trainer.default_root_dir}/predictions").expanduser()
        self._classes = module_of(pl_module).segmenter.classes
        pictures = data_of(trainer).pictures
        for place in (*map(Path, data_of(trainer).predict_dir), *(found.path for found in pictures.found)):
            inside = place.is_dir() and root.resolve().is_relative_to(place.resolve())
            if inside or place.resolve().is_relative_to(root.resolve()):
                remedy = "give another folder with --predictions.folder"
                raise ValueError(f"the maps in {root} would mix with the pictures in {place}: {remedy}")
        if self.confidence and (same := {f"confidence/{name}" for name in pictures.names} & {*pictures.names}):
            fault = f"the map of {min(same)} would have the name of a confidence"
            raise ValueError(f"{fault}: predict confidence/ by itself")
        root.mkdir(parents=True, exist_ok=True)  # an error if it is a file or lies below one
        self._pool = ThreadPoolExecutor(THREADS)
        done = [name for name in pictures.names if self._map(name).exists()]
        present = [path for path in (*map(self._map, done), root / SHARES) if path.exists()]
        if self.skip_existing:
            kept = self._pool.map(lambda name: read_map(self._map(name), len(self._classes)), done)
            self._shares = {name: self._share(label) for name, label in zip(done, kept, strict=True)}
            pictures.leave_out(set(done))
        elif present and not self.overwrite:
            remedy = "give --overwrite, --skip_existing to continue, or another folder with --predictions.folder"
            raise FileExistsError(f"{present[0]} and {len(present) - 1} more exist already: {remedy}")

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Let a thread write the files of a picture, which may still be on its way from the device.

        Raises:
            OSError: A file, of this picture or an earlier one, cannot be written.
        """
        if batch["padding"]:  # a placeholder for a file that cannot be read
            return
        prediction: Prediction = outputs
        (name,) = batch["name"]
        shown = [prediction.label[0].to(torch.uint8)]
        shown += [batch["image"][0].permute(1, 2, 0)] * self.overlay
        shown += [(255 * prediction.confidence[0]).round().to(torch.uint8)] * self.confidence
        # from a CUDA device to pinned memory, without waiting for the end
        shown = [each.to("cpu", non_blocking=each.is_cuda) for each in shown]
        copied = torch.cuda.Event(blocking=True) if batch["image"].is_cuda else None
        if copied is not None:
            copied.record()
        self._finish(THREADS - 1)
        self._writing.append(self._pool.submit(self._write, name, copied, shown))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let the threads end, so that what was segmented before an interruption is kept."""
        wait(self._writing)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the shares of all ranks and of the maps that are kept, and print where everything is.

        Raises:
            OSError: A file cannot be written.
            ValueError: No picture could be read.
        """
        if stage != "predict":
            return
        self._finish(0)
        found = {name: share for part in gather(self._shares) for name, share in part.items()}
        if not found:
            fault = f"none of the {len(data_of(trainer).pictures)} pictures could be read"
            raise ValueError(f"{fault}: the lines above say why; give others")
        if trainer.is_global_zero:
            table = pd.DataFrame.from_dict(found, orient="index", columns=list(self._classes)).sort_index()
            write_whole(self._root / SHARES, table.to_csv(index_label="picture", float_format="%.6f").encode())
            if not getattr(trainer, "fast_dev_run", False):  # a trial keeps no file
                Console().print(
                    f"{len(found)} map{'s' * (len(found) > 1)} in {self._root}, class shares in {SHARES}",
                    highlight=False,
                    markup=False,
                )

    def _write(self, name: str, copied: torch.cuda.Event | None, shown: list[Tensor]) -> None:
        """Write the files of a picture as soon as they are on the host."""
        if copied is not None:
            copied.synchronize()
        label = shown[0].numpy()
        if self.overlay:
            drawn = overlay(shown[1].numpy(), label, self._classes, self.opacity)
            write_picture(self._root / f"overlays/{name}.jpg", drawn)
        if self.confidence:
            write_picture(self._root / f"confidence/{name}.png", shown[-1].numpy())
        write_map(self._map(name), label, self._classes)
        self._shares[name] = self._share(label)

    def _finish(self, left: int) -> None:
        """Wait until at most ``left`` pictures are still being written, and raise an error of the others."""
        while len(self._writing) > left:
            self._writing.popleft().result()

    def _map(self, name: str) -> Path:
        return self._root / f"{name}.png"

    def _share(self, label: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Return the share of each class in a map, in [0, 1]."""
        return np.bincount(label.ravel(), minlength=len(self._classes)) / label.size


def read_map(path: Path, num_classes: int) -> npt.NDArray[np.integer]:
    """Read a map that an earlier prediction has written.

    Raises:
        ValueError: The file is not a label map of these classes.
    """
    with suppress(ValueError):
        label = read_label(path)
        if label.max() < num_classes:
            return label
    remedy = "give --overwrite instead of --skip_existing, or another folder with --predictions.folder"
    raise ValueError(f"{path} is not a map of {num_classes} classes: {remedy}")


def write_map(path: Path, label: npt.NDArray[np.uint8], classes: ClassList) -> None:
    """Write train ids as a PNG with the colours of the classes as palette, whole or not at all."""
    indexed, content = Image.fromarray(label), io.BytesIO()
    indexed.putpalette(classes.palette.ravel().tolist())
    indexed.save(content, format="PNG")
    write_whole(path, content.getvalue())
