"""IDD: roads around Hyderabad and Bangalore, India."""

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.cityscapes import TRAIN_IDS
from ppar_lightning.data.layout import Layout


class IDD(FolderDataset):
    """Splits `train` and `val`, of one part of the download or of both.

    The download has polygons. The label files hold csTrainIds, which are Cityscapes' train ids or 255, and are written
    by AutoNUE's createLabels.py with `--id-type csTrainId`; what it calls non-drivable fallback is terrain.
    """

    layouts = (
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelcsTrainIds.png", TRAIN_IDS),
    )
