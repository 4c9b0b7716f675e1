"""What ``ppar predict`` writes: label maps, overlays, confidence and class shares of a user's own pictures."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console

from ppar_lightning.data.classes import CLASSES, PALETTE, colourise
from ppar_lightning.module import Prediction

SHARES = "shares.csv"


class PredictionWriter(L.Callback):
    """Write an indexed PNG of train ids in Cityscapes' palette for each picture, and what else is asked for.

    Names and sub-folders are those of the pictures: ``{folder}/{name}.png``, ``overlays/{name}.jpg``,
    ``confidence/{name}.png`` (255 is 1), and ``shares.csv`` with the share of each class in each picture.
    """

    def __init__(
        self,
        folder: str | None = None,
        overlay: bool = True,
        confidence: bool = False,
        overwrite: bool = False,
        opacity: float = 0.5,
    ) -> None:
        """Choose what is written.

        Args:
            folder: Where to; None is ``predictions`` in the run folder.
            overlay: Write the map over the picture.
            confidence: Write the largest softmax probability of each pixel.
            overwrite: Write over what an earlier prediction left.
            opacity: Of the map in overlays, in [0, 1].
        """
        self.folder = folder
        self.overlay = overlay
        self.confidence = confidence
        self.overwrite = overwrite
        self.opacity = opacity
        self._shares: list[tuple[str, npt.NDArray[np.float64]]] = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to write over an earlier prediction.

        Raises:
            FileExistsError: If a map is there already.
        """
        self._shares = []
        names = trainer.datamodule.picture_names  # type: ignore[attr-defined]
        there = [name for name in names if self._path(trainer, name).exists()]
        if there and not self.overwrite:
            raise FileExistsError(
                f"{self._path(trainer, there[0])} and {len(there) - 1} more are there already: give --overwrite, "
                "or another folder with --predictions.folder"
            )

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write what belongs to the pictures of a batch."""
        prediction: Prediction = outputs
        images = batch["image"].permute(0, 2, 3, 1).cpu().numpy()
        maps, confidences = (each.cpu().numpy() for each in prediction)
        for name, image, label, confidence in zip(batch["name"], images, maps, confidences, strict=True):
            if name:  # not a placeholder of a file that cannot be read
                self._write(trainer, name, image, label.astype(np.uint8), confidence)

    def _write(self, trainer: L.Trainer, name: str, image: Any, label: npt.NDArray[np.uint8], confidence: Any) -> None:
        indexed = Image.fromarray(label)
        indexed.putpalette(PALETTE.ravel().tolist())
        save(indexed, self._path(trainer, name))
        if self.overlay:
            mixed = (1 - self.opacity) * image + self.opacity * colourise(label)
            save(Image.fromarray(mixed.round().astype(np.uint8)), self._path(trainer, f"overlays/{name}", ".jpg"))
        if self.confidence:
            levels = (255 * confidence).round().astype(np.uint8)
            save(Image.fromarray(levels), self._path(trainer, f"confidence/{name}"))
        self._shares.append((name, np.bincount(label.ravel(), minlength=len(CLASSES)) / label.size))

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the shares of all ranks together, and say where everything is.

        Raises:
            ValueError: If no picture could be read.
        """
        path = self._path(trainer, "shares", f".{trainer.global_rank}.csv")
        write_shares(path, self._shares)
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        parts = [path.with_name(f"shares.{rank}.csv") for rank in range(trainer.world_size)]
        count = merge(parts, path.with_name(SHARES))
        if not count:
            raise ValueError(f"none of the {len(trainer.datamodule.picture_names)} pictures could be read")  # type: ignore[attr-defined]
        Console().print(f"{count} maps in {path.parent}, their class shares in {SHARES}", highlight=False)

    def _path(self, trainer: L.Trainer, name: str, suffix: str = ".png") -> Path:
        return Path(self.folder or f"{trainer.default_root_dir}/predictions") / f"{name}{suffix}"


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def write_shares(path: Path, shares: list[tuple[str, npt.NDArray[np.float64]]]) -> None:
    """Write a line a picture: its name, and the share of each class in [0, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([name, *(f"{share:.6f}" for share in values)] for name, values in shares)


def merge(parts: list[Path], whole: Path) -> int:
    """Put the lines of all ranks, by name, under one heading, and return how many there are."""
    lines: list[list[str]] = []
    for part in parts:
        with part.open(newline="") as file:
            lines += csv.reader(file)
        part.unlink()
    with whole.open("w", newline="") as file:
        csv.writer(file).writerows([["picture", *CLASSES], *sorted(lines)])
    return len(lines)
