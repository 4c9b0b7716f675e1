"""Foggy Zurich and Foggy Driving: small test sets in real fog, with Cityscapes' classes; text files list the splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import KINDS
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.decoding import RESTORE


class FoggyZurich(FolderDataset):
    """Zurich and suburbs in dense fog, 1920x1080: the 40 labelled images are split `testv2`, 16 of them `testv1`.

    The other 3,768 images of the download have no labels and are not read.
    """

    layouts = tuple(Layout("RGB/*.png", f"gt_{kind}/*.png", ids) for kind, ids in KINDS.items())
    splits: ClassVar[tuple[str, ...]] = ("testv2", "testv1")
    eval_split = "testv2"
    counts: ClassVar = {"testv2": 40, "testv1": 16}
    listed: ClassVar[str] = "RGB_"
    """Beginning of the names of the files that list the images of a split."""

    def select(self, names: Sequence[str]) -> Sequence[str]:
        """Choose the images that the list of the split contains.

        Raises:
            FileNotFoundError: There is no such list.
        """
        path = self.root / "lists_file_names" / f"{self.listed}{self.split}_filenames.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found, which lists split {self.split!r}; {RESTORE}")
        below = (line.strip().partition("/")[2] for line in path.read_text().splitlines() if line.strip())
        return [each.rpartition(".")[0].removesuffix("_leftImg8bit") for each in below]


class FineOrCoarse(Layout):
    """Images whose labels are in one of two folders, of which `labels` names the finer."""

    def files(self, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return images and labels by name.

        Raises:
            ValueError: Two files belong to the same sample.
        """
        images, fine = super().files(root, split)
        coarse = self.labels.replace("gtFine", "gtCoarse")
        return images, Layout(coarse, coarse, self.ids).files(root, split)[1] | fine


class FoggyDriving(FoggyZurich):
    """Roads in fog from several cameras and the web: 101 images as `testall`, in many sizes.

    33 of them have fine labels, split `testfine`, and 68 coarse ones; 21 in dense fog are split `testdense`.
    """

    layouts = tuple(
        FineOrCoarse("leftImg8bit/*_leftImg8bit.png", f"gtFine/*_gtFine_{kind}.png", ids) for kind, ids in KINDS.items()
    )
    splits = ("testall", "testfine", "testdense")
    eval_split = "testall"
    counts: ClassVar = {"testall": 101, "testfine": 33, "testdense": 21}
    listed: ClassVar[str] = "leftImg8bit_"
