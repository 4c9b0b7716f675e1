"""ACDC: Swiss roads in fog, at night, in rain and in snow, 1920x1080."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import LABEL_IDS, TRAIN_IDS
from ppar_lightning.data.layout import Layout


def _layouts(condition: str) -> tuple[Layout, ...]:
    """List the layouts: train ids or label ids, without or with the two folders that are named after the zips."""
    return tuple(
        Layout(
            f"{images}rgb_anon/{condition}/{{split}}/*_rgb_anon.png",
            f"{labels}gt/{condition}/{{split}}/*_gt_{kind}.png",
            ids,
        )
        for images, labels in (("", ""), ("rgb_anon_trainvaltest/", "gt_trainval/"))
        for kind, ids in (("labelTrainIds", TRAIN_IDS), ("labelIds", LABEL_IDS))
    )


class ACDC(FolderDataset):
    """1,600 training and 406 validation images of all conditions; `test` has no public labels."""

    layouts = _layouts("*")
    counts: ClassVar = {"train": 1600, "val": 406}


class ACDCFog(FolderDataset):
    """The 400 training and 100 validation images in fog."""

    layouts = _layouts("fog")
    counts: ClassVar = {"train": 400, "val": 100}


class ACDCNight(FolderDataset):
    """The 400 training and 106 validation images at night."""

    layouts = _layouts("night")
    counts: ClassVar = {"train": 400, "val": 106}


class ACDCRain(FolderDataset):
    """The 400 training and 100 validation images in rain."""

    layouts = _layouts("rain")
    counts: ClassVar = {"train": 400, "val": 100}


class ACDCSnow(FolderDataset):
    """The 400 training and 100 validation images in snow."""

    layouts = _layouts("snow")
    counts: ClassVar = {"train": 400, "val": 100}
