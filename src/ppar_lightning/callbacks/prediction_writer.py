"""What ``ppar predict`` writes: label maps, overlays, confidence and class shares of a user's own pictures."""

import csv
import io
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from PIL import Image
from rich.console import Console

from ppar_lightning.callbacks.access import data_of, module_of
from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import PALETTE
from ppar_lightning.images.drawing import overlay, write_picture
from ppar_lightning.module import Prediction

SHARES = "shares.csv"


class PredictionWriter(L.Callback):
    """Write an indexed PNG of train ids in Cityscapes' palette for each picture, and what else the options ask for.

    Names and sub-folders are those of the pictures: ``{folder}/{name}.png``, ``overlays/{name}.jpg``,
    ``confidence/{name}.png`` (255 is 1), and ``shares.csv`` with the share of each class in each picture of the call.
    Each file is written whole or not at all, the map of a picture last.
    """

    def __init__(
        self,
        folder: str | None = None,
        overlay: bool = True,
        confidence: bool = False,
        overwrite: bool = False,
        skip_existing: bool = False,
        opacity: float = 0.5,
    ) -> None:
        """Choose what is written.

        Args:
            folder: Folder of the maps; None is ``predictions`` in the run folder.
            overlay: Write the map over the picture.
            confidence: Write the largest softmax probability of each pixel.
            overwrite: Write over the files of an earlier prediction.
            skip_existing: Leave out pictures that have a map, to continue a prediction that was stopped.
            opacity: Opacity of the map in overlays, in [0, 1].

        Raises:
            ValueError: The opacity is outside its range, or both overwrite and skip_existing are set.
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f"predictions.opacity is {opacity}: give a value in [0, 1]")
        if overwrite and skip_existing:
            raise ValueError("--overwrite and --skip_existing say opposite things: give one")
        self.folder = folder
        self.overlay = overlay
        self.confidence = confidence
        self.overwrite = overwrite
        self.skip_existing = skip_existing
        self.opacity = opacity
        self._shares: dict[str, list[str]] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the folder before anything is written.

        Raises:
            FileExistsError: It holds a map of one of the pictures.
            ValueError: The maps would lie among the pictures, or two would have one name.
        """
        if stage != "predict":
            return
        pictures, places, root = data_of(trainer).pictures, data_of(trainer).predict_dir, self._root(trainer)
        for place in (*places, *(str(found.path) for found in pictures.found)):
            around = Path(place).is_dir() and root.resolve().is_relative_to(Path(place).resolve())
            if around or Path(place).resolve().is_relative_to(root.resolve()):
                raise ValueError(
                    f"the maps in {root} would mix with the pictures in {place}: give another folder with "
                    "--predictions.folder"
                )
        for name in pictures.names:
            kind, _, rest = name.partition("/")
            if kind in ("overlays", "confidence") and rest in pictures.names:
                raise ValueError(f"what is written of {name} and {rest} would have one name: predict {kind}/ by itself")
        there = [name for name in pictures.names if self._path(trainer, name).exists()]
        if self.skip_existing:
            classes = module_of(pl_module).segmenter.num_classes
            self._shares = {name: shares(read_map(self._path(trainer, name)), classes) for name in there}
            pictures.leave_out(set(there))
        elif there and not self.overwrite:
            raise FileExistsError(
                f"{self._path(trainer, there[0])} and {len(there) - 1} more are there already: give --overwrite, "
                "--skip_existing to go on, or another folder with --predictions.folder"
            )

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the files of a batch of pictures."""
        if batch["padding"]:  # in place of a file that cannot be read
            return
        prediction: Prediction = outputs
        images = batch["image"].permute(0, 2, 3, 1).cpu().numpy()
        maps, confidences = (each.cpu().numpy() for each in prediction)
        classes = module_of(pl_module).segmenter.num_classes
        for name, image, label, confidence in zip(batch["name"], images, maps, confidences, strict=True):
            self._write(trainer, name, image, label.astype(np.uint8), confidence)
            self._shares[name] = shares(label, classes)

    def _write(self, trainer: L.Trainer, name: str, image: Any, label: npt.NDArray[np.uint8], confidence: Any) -> None:
        if self.overlay:
            path = self._path(trainer, f"overlays/{name}", ".jpg")
            write_picture(path, overlay(image, label, self.opacity))
        if self.confidence:
            write_picture(self._path(trainer, f"confidence/{name}"), (255 * confidence).round().astype(np.uint8))
        write_map(self._path(trainer, name), label)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the shares of all ranks, and print where everything is.

        Raises:
            ValueError: No picture could be read.
        """
        if stage != "predict":
            return
        parts = [self._shares] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(parts, self._shares)
        found = {name: values for part in parts for name, values in part.items()}
        if not found:
            raise ValueError(f"none of the {len(data_of(trainer).pictures)} pictures could be read")
        if trainer.is_global_zero:
            root, text = self._root(trainer), io.StringIO(newline="")
            rows = ([name, *values] for name, values in sorted(found.items()))
            csv.writer(text).writerows([["picture", *module_of(pl_module).segmenter.classes], *rows])
            write_whole(root / SHARES, text.getvalue().encode())
            maps = "1 map" if len(found) == 1 else f"{len(found)} maps"
            Console().print(f"{maps} in {root}, class shares in {SHARES}", highlight=False)

    def _root(self, trainer: L.Trainer) -> Path:
        return Path(self.folder or f"{trainer.default_root_dir}/predictions")

    def _path(self, trainer: L.Trainer, name: str, suffix: str = ".png") -> Path:
        return self._root(trainer) / f"{name}{suffix}"


def shares(label: npt.NDArray[np.integer], classes: int) -> list[str]:
    """Format the share of each class in a map, in [0, 1]."""
    return [f"{share:.6f}" for share in np.bincount(label.ravel(), minlength=classes) / label.size]


def read_map(path: Path) -> npt.NDArray[np.uint8]:
    """Read a map that an earlier prediction has written.

    Raises:
        ValueError: The file is no such map.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode == "P":
                return np.asarray(picture)
    except (OSError, SyntaxError):  # Pillow raises either for a damaged file
        pass
    raise ValueError(f"{path} is no label map: give --overwrite, or another folder with --predictions.folder")


def write_map(path: Path, label: npt.NDArray[np.uint8]) -> None:
    """Write train ids as a PNG with Cityscapes' palette, whole or not at all."""
    indexed, content = Image.fromarray(label), io.BytesIO()
    indexed.putpalette(PALETTE.ravel().tolist())
    indexed.save(content, format="PNG")
    write_whole(path, content.getvalue())
