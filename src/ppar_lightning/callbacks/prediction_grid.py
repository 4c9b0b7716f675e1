"""Prediction grids in the fixed Cityscapes palette: image, label and prediction of a few images of each domain."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from ppar_lightning.images.drawing import Picture, grid, triple, write_picture


class PredictionGrid(L.Callback):
    """Save one row a domain as ``pictures/{stage}.png`` in the run folder, and show it in the logger if it can."""

    def __init__(self, images: int = 2, width: int = 256) -> None:
        """Choose the size of the grid.

        Args:
            images: Number of images of each domain, the first of its list; 0 draws none.
            width: Width of a picture in pixels.
        """
        self.images = images
        self.width = width
        self._rows: dict[str, list[Picture]] = {}

    def _collect(self, trainer: L.Trainer, batch: dict[str, Any], prediction: Tensor) -> None:
        if trainer.sanity_checking or batch["padding"]:  # nothing is learnt yet
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
