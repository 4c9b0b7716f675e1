"""IDD: roads around Hyderabad and Bangalore, India."""

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import TRAIN_IDS
from ppar_lightning.data.layout import Layout


class IDD(FolderDataset):
    """Splits `train` and `val` of one part of the download or of both.

    The download contains polygons. AutoNUE's createLabels.py with `--id-type csTrainId` converts them to label files of
    Cityscapes' train ids and 255; IDD's non-drivable fallback becomes terrain.
    """

    layouts = (
        Layout("leftImg8bit/{split}/*_leftImg8bit.png", "gtFine/{split}/*_gtFine_labelcsTrainIds.png", TRAIN_IDS),
    )
