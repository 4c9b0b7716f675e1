"""What ``ppar predict`` writes: label maps, overlays, confidence and class shares of a user's own pictures."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch.distributed as dist
from PIL import Image
from rich.console import Console

from ppar_lightning.data.own_pictures import PictureDataset
from ppar_lightning.disk.files import write_whole
from ppar_lightning.images.classes import PALETTE
from ppar_lightning.images.drawing import overlay, write_picture
from ppar_lightning.module import Prediction

SHARES = "shares.csv"


class PredictionWriter(L.Callback):
    """Write an indexed PNG of train ids in Cityscapes' palette for each picture, and what else is asked for.

    Names and sub-folders are those of the pictures: ``{folder}/{name}.png``, ``overlays/{name}.jpg``,
    ``confidence/{name}.png`` (255 is 1), and ``shares.csv`` with the share of each class in each picture, which keeps
    the lines of other pictures. Each file is written whole or not at all, the map last.
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
            folder: Where to; None is ``predictions`` in the run folder.
            overlay: Write the map over the picture.
            confidence: Write the largest softmax probability of each pixel.
            overwrite: Write over what an earlier prediction left.
            skip_existing: Leave out pictures whose map is there: go on with a prediction that was stopped.
            opacity: Of the map in overlays, in [0, 1].

        Raises:
            ValueError: The opacity is outside its range, or both of the ways with earlier maps are asked for.
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
        """Look at what is there before anything is written.

        Raises:
            FileExistsError: A map is there already.
            ValueError: The maps would lie among the pictures, or two would have one name.
        """
        if stage != "predict":
            return
        self._shares = {}
        pictures: PictureDataset = trainer.datamodule.pictures  # type: ignore[attr-defined]
        places: Sequence[str] = trainer.datamodule.predict_dir  # type: ignore[attr-defined]
        root = self._root(trainer)
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
            classes = len(pl_module.segmenter.classes)  # type: ignore[union-attr,arg-type]
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
        """Write what belongs to the pictures of a batch."""
        if batch["padding"]:  # in place of a file that cannot be read
            return
        prediction: Prediction = outputs
        images = batch["image"].permute(0, 2, 3, 1).cpu().numpy()
        maps, confidences = (each.cpu().numpy() for each in prediction)
        classes = len(pl_module.segmenter.classes)  # type: ignore[union-attr,arg-type]
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
        """Put the shares of all ranks together, and say where everything is.

        Raises:
            ValueError: No picture could be read.
        """
        if stage != "predict":
            return
        ranks: list[dict[str, list[str]]] = gather(trainer, self._shares)
        found = {name: values for part in ranks for name, values in part.items()}
        if not found:
            raise ValueError(f"none of the {len(trainer.datamodule.pictures)} pictures could be read")  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            root = self._root(trainer)
            write_shares(root / SHARES, found, pl_module.segmenter.classes)  # type: ignore[union-attr,arg-type]
            maps = "1 map" if len(found) == 1 else f"{len(found)} maps"
            Console().print(f"{maps} in {root}, class shares in {SHARES}", highlight=False)

    def _root(self, trainer: L.Trainer) -> Path:
        return Path(self.folder or f"{trainer.default_root_dir}/predictions")

    def _path(self, trainer: L.Trainer, name: str, suffix: str = ".png") -> Path:
        return self._root(trainer) / f"{name}{suffix}"


def shares(label: npt.NDArray[np.integer], classes: int) -> list[str]:
    """Share of each class in a map, in [0, 1], as it is written."""
    return [f"{share:.6f}" for share in np.bincount(label.ravel(), minlength=classes) / label.size]


def read_map(path: Path) -> npt.NDArray[np.uint8]:
    """Read a map that was written.

    Raises:
        ValueError: It is none.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode == "P":
                return np.asarray(picture)
    except (OSError, SyntaxError):  # of Pillow, for a damaged file
        pass
    raise ValueError(f"{path} is no label map: give --overwrite, or another folder with --predictions.folder")


def write_map(path: Path, label: npt.NDArray[np.uint8]) -> None:
    """Write train ids as a PNG with Cityscapes' palette, whole or not at all."""
    indexed, content = Image.fromarray(label), io.BytesIO()
    indexed.putpalette(PALETTE.ravel().tolist())
    indexed.save(content, format="PNG")
    write_whole(path, content.getvalue())


def write_shares(path: Path, found: Mapping[str, list[str]], classes: Sequence[str]) -> None:
    """Write a line a picture: its name, and the share of each class. Lines of pictures that are not given stay."""
    head = ["picture", *classes]
    lines: dict[str, list[str]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        lines = {row[0]: row[1:] for row in rows[1:] if rows[0] == head}
    text = io.StringIO(newline="")
    csv.writer(text).writerows([head, *([name, *values] for name, values in sorted({**lines, **found}.items()))])
    write_whole(path, text.getvalue().encode())


def gather(trainer: L.Trainer, part: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """Bring together what the ranks have."""
    parts: list[Any] = [part]
    if trainer.world_size > 1:
        parts = [None] * trainer.world_size
        dist.all_gather_object(parts, part)
    return parts
