"""Prediction grids in the fixed Cityscapes palette: image, label and prediction of a few images of each domain."""

from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import IGNORE, colourise

Picture = npt.NDArray[np.uint8]
GAP = 4
CAPTION = 18


class PredictionGrid(L.Callback):
    """Save one row a domain as ``pictures/{stage}.png`` in the run folder, and show it in the logger if it can."""

    def __init__(self, images: int = 2, width: int = 256) -> None:
        """Choose the size of the grid.

        Args:
            images: Number of images of each domain, the first of its list; 0 draws none.
            width: Of a tile, in pixels.
        """
        self.images = images
        self.width = width
        self._rows: dict[str, list[Picture]] = {}

    def _collect(self, trainer: L.Trainer, batch: dict[str, Any], prediction: Tensor) -> None:
        if trainer.sanity_checking or not batch["name"][0]:  # nothing is learnt yet; a placeholder
            return
        row = self._rows.setdefault(batch["domain"][0], [])
        missing = self.images - len(row) if trainer.is_global_zero else 0
        tiles = zip(batch["image"][:missing], batch["label"][:missing], prediction[:missing], strict=True)
        for image, label, predicted in tiles:
            row.append(triple(image.cpu().numpy(), label.cpu().numpy(), predicted.cpu().numpy(), self.width))

    def _save(self, trainer: L.Trainer, stage: str) -> None:
        rows = {domain: row for domain, row in self._rows.items() if row}
        self._rows = {}
        if not rows or not trainer.is_global_zero:
            return
        picture = grid(rows)
        write_picture(Path(trainer.default_root_dir) / "pictures" / f"{stage}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"{stage}/predictions", [picture])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"{stage}/predictions", picture, trainer.global_step, dataformats="HWC")

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Draw the first images of each domain."""
        self._collect(trainer, batch, outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Draw the first images of each domain."""
        self._collect(trainer, batch, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save ``pictures/val.png``."""
        self._save(trainer, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save ``pictures/test.png``."""
        self._save(trainer, "test")


def write_picture(path: Path, picture: Picture) -> None:
    """Write (H, W, 3) uint8 RGB as PNG, whole or not at all, and its folder; imwrite would not tell of a full disk.

    Raises:
        OSError: It cannot be written.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_whole(path, encoded.tobytes())


def triple(image: Picture, label: Picture, prediction: npt.NDArray[np.integer], width: int) -> Picture:
    """Put image, label and prediction side by side; ignored pixels are black in both maps.

    Args:
        image: (3, H, W) uint8 RGB.
        label: (H, W) train ids.
        prediction: (H, W) train ids.
        width: Of each of the three, in pixels.

    Returns:
        (h, 3 * width + 2 * GAP, 3) uint8 RGB.
    """
    height = round(width * image.shape[1] / image.shape[2])
    shown = np.where(label == IGNORE, IGNORE, prediction)
    tiles = [
        cv2.resize(np.ascontiguousarray(image.transpose(1, 2, 0)), (width, height), interpolation=cv2.INTER_AREA),
        *(cv2.resize(colourise(m), (width, height), interpolation=cv2.INTER_NEAREST) for m in (label, shown)),
    ]
    gap = np.full((height, GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], axis=1)


def grid(rows: dict[str, list[Picture]]) -> Picture:
    """Stack domains under captions, their triples side by side, on white.

    Args:
        rows: Triples of each domain by its name.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    bands = [_band(domain, row) for domain, row in rows.items()]
    width = max(band.shape[1] for band in bands)
    padded = [np.pad(b, ((0, 0), (0, width - b.shape[1]), (0, 0)), constant_values=255) for b in bands]
    return np.concatenate(padded, axis=0)


def _band(domain: str, row: list[Picture]) -> Picture:
    height = max(picture.shape[0] for picture in row)
    tiles = [np.pad(p, ((0, height - p.shape[0] + GAP), (0, 3 * GAP), (0, 0)), constant_values=255) for p in row]
    band = np.concatenate(tiles, axis=1)
    caption = np.full((CAPTION, band.shape[1], 3), 255, dtype=np.uint8)
    text = f"{domain}: image, label, prediction"
    cv2.putText(caption, text, (2, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([caption, band], axis=0)
