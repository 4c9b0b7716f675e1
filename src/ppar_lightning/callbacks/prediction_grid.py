"""Prediction grids in the colours of the classes: image, label and prediction of a few images of each domain."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from ppar_lightning.callbacks.access import data_of
from ppar_lightning.images.drawing import Picture, grid, triple, write_picture


class PredictionGrid(L.Callback):
    """Save one row per domain as ``pictures/{stage}.png`` in the run folder; log it to W&B or TensorBoard."""

    def __init__(self, images: int = 2, width: int = 256) -> None:
        """Choose the size of the grid.

        Args:
            images: Number of images of each domain, from the start of its split; 0 draws none.
            width: Width of each single picture in pixels.
        """
        self.images = images
        self.width = width
        self._rows: dict[str, list[Picture]] = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Draw the first images of each domain."""
        # nothing is learnt yet in the sanity check
        if trainer.sanity_checking or batch["padding"] or not trainer.is_global_zero:
            return
        row = self._rows.setdefault(batch["domain"][0], [])
        missing = self.images - len(row)
        for tensors in zip(batch["image"][:missing], batch["label"][:missing], outputs[:missing], strict=True):
            image, label, predicted = (tensor.cpu().numpy() for tensor in tensors)
            row.append(triple(image, label, predicted, data_of(trainer).classes, self.width))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save ``pictures/val.png``, or ``pictures/test.png`` in a test."""
        rows, stage = {domain: row for domain, row in self._rows.items() if row}, "test" if trainer.testing else "val"
        self._rows = {}
        if not rows:
            return
        picture = grid(rows)
        write_picture(Path(trainer.default_root_dir) / "pictures" / f"{stage}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"{stage}/predictions", [picture])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"{stage}/predictions", picture, trainer.global_step, dataformats="HWC")

    on_test_epoch_end = on_validation_epoch_end

    def on_test_batch_end(self, *given: Any) -> None:
        """Draw the first images of each domain."""
        self.on_validation_batch_end(*given)
