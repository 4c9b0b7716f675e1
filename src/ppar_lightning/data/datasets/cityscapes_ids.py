"""Data sets whose label files hold Cityscapes' label ids or train ids; only their layouts differ."""

from typing import ClassVar

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import KINDS, LABEL_IDS, TRAIN_IDS
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import IGNORE


class Cityscapes(FolderDataset):
    """German cities in daylight, 2048x1024: 2,975 training and 500 validation images.

    Labels are `labelIds` files, or else `labelTrainIds`.
    """

    layouts = (
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelIds.png", LABEL_IDS),
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelTrainIds.png", TRAIN_IDS),
    )
    counts: ClassVar = {"train": 2975, "val": 500}


def _acdc(condition: str) -> tuple[Layout, ...]:
    """List the layouts: train ids or label ids, without or with the two folders that are named after the zips."""
    files = f"{condition}/{{split}}/*_"
    return tuple(
        Layout(f"{images}rgb_anon/{files}rgb_anon.png", f"{labels}gt/{files}gt_{kind}.png", ids)
        for images, labels in (("", ""), ("rgb_anon_trainvaltest/", "gt_trainval/"))
        for kind, ids in KINDS.items()
    )


class ACDC(FolderDataset):
    """Swiss roads in bad weather and at night, 1920x1080: 1,600 training and 406 validation images.

    These are the images of all conditions; `test` has no public labels.
    """

    layouts = _acdc("*")
    counts: ClassVar = {"train": 1600, "val": 406}


class ACDCFog(FolderDataset):
    """The 400 training and 100 validation images in fog."""

    layouts = _acdc("fog")
    counts: ClassVar = {"train": 400, "val": 100}


class ACDCNight(FolderDataset):
    """The 400 training and 106 validation images at night."""

    layouts = _acdc("night")
    counts: ClassVar = {"train": 400, "val": 106}


class ACDCRain(FolderDataset):
    """The 400 training and 100 validation images in rain."""

    layouts = _acdc("rain")
    counts: ClassVar = {"train": 400, "val": 100}


class ACDCSnow(FolderDataset):
    """The 400 training and 100 validation images in snow."""

    layouts = _acdc("snow")
    counts: ClassVar = {"train": 400, "val": 100}


class BDD100K(FolderDataset):
    """US roads, 1280x720: 7,000 training and 1,000 validation images of the 10k set, in the new layout or the old."""

    layouts = (
        Layout("images/10k/{split}/*.jpg", "labels/sem_seg/masks/{split}/*.png", TRAIN_IDS),
        Layout("images/{split}/*.jpg", "labels/{split}/*_train_id.png", TRAIN_IDS),
    )
    counts: ClassVar = {"train": 7000, "val": 1000}


class DarkZurich(FolderDataset):
    """Zurich, 1920x1080: the 50 validation images taken at night; the other splits have no public labels."""

    layouts = (Layout("rgb_anon/{split}/night/*_rgb_anon.png", "gt/{split}/night/*_gt_labelTrainIds.png", TRAIN_IDS),)
    counts: ClassVar = {"val": 50}


class IDD(FolderDataset):
    """Roads around Hyderabad and Bangalore: splits `train` and `val` of one part of the download or of both.

    The download contains polygons. AutoNUE's createLabels.py with `--id-type csTrainId` converts them to label files of
    Cityscapes' train ids and 255; IDD's non-drivable fallback becomes terrain.
    """

    layouts = (
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelcsTrainIds.png", TRAIN_IDS),
    )


class KITTI(FolderDataset):
    """Roads in and around Karlsruhe, about 1242x375: 200 images of split `training`.

    They serve for training or evaluation; `testing` has no public labels.
    """

    layouts = (
        # Scene flow 2015 uses the same folder; its second frames, *_11.png, have no labels.
        Layout("{split}/image_2/*_10.png", "{split}/semantic/*_10.png", LABEL_IDS),
        Layout("{split}/image_2/*.png", "{split}/semantic/*.png", LABEL_IDS),
    )
    train_split = "training"
    eval_split = "training"
    counts: ClassVar = {"training": 200}


_COARSE = "gtCoarse_daytime_trainvaltest/{split}/*_gtCoarse_"


class NighttimeDriving(FolderDataset):
    """Zurich at night, 1920x1080: the 50 coarsely labelled images of split `test`, which serve for evaluation."""

    layouts = tuple(
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", f"{_COARSE}{kind}.png", ids) for kind, ids in KINDS.items()
    )
    eval_split = "test"
    counts: ClassVar = {"test": 50}


class UrbanSyn(FolderDataset):
    """Rendered cities, 2048x1024: more than 7,500 images without splits, opened as `all`; id 19 is unlabelled."""

    layouts = (
        Layout("rgb/rgb_*.png", "ss/ss_*.png", TRAIN_IDS | {19: IGNORE}),
        Layout("rgb/*.png", "ss/*.png", TRAIN_IDS | {19: IGNORE}),
    )
    splits = ("all",)
    train_split = "all"
    eval_split = "all"
