"""The data sets by name."""

from collections.abc import Callable, Mapping
from functools import partial

from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.data.datasets.acdc import ACDC, ACDCFog, ACDCNight, ACDCRain, ACDCSnow
from ppar_lightning.data.datasets.bdd100k import BDD100K
from ppar_lightning.data.datasets.camvid import CamVid
from ppar_lightning.data.datasets.cityscapes import Cityscapes
from ppar_lightning.data.datasets.dark_zurich import DarkZurich
from ppar_lightning.data.datasets.folder import Folder
from ppar_lightning.data.datasets.gta5 import GTA5
from ppar_lightning.data.datasets.idd import IDD
from ppar_lightning.data.datasets.kitti import KITTI
from ppar_lightning.data.datasets.mapillary import Mapillary
from ppar_lightning.data.datasets.streets import ProceduralStreets
from ppar_lightning.data.datasets.synthia import SYNTHIA
from ppar_lightning.data.datasets.urbansyn import UrbanSyn
from ppar_lightning.streets.render import DOMAINS

DATASETS: Mapping[str, Callable[..., SegmentationDataset]] = {
    "gta": GTA5,
    "cityscapes": Cityscapes,
    "bdd100k": BDD100K,
    "mapillary": Mapillary,
    "idd": IDD,
    "acdc": ACDC,
    "acdc_fog": ACDCFog,
    "acdc_night": ACDCNight,
    "acdc_rain": ACDCRain,
    "acdc_snow": ACDCSnow,
    "dark_zurich": DarkZurich,
    "kitti": KITTI,
    "camvid": CamVid,
    "synthia": SYNTHIA,
    "urbansyn": UrbanSyn,
    "folder": Folder,
    **{style: partial(ProceduralStreets, style=style) for style in DOMAINS},
}
"""Name in a config -> class or function that opens the data set with `root`, `split`, `domain` and its own options."""
