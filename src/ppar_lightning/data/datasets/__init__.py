"""The data sets by name."""

from collections.abc import Callable, Mapping
from functools import partial

from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.data.datasets import cityscapes_ids as plain
from ppar_lightning.data.datasets.camvid import CamVid
from ppar_lightning.data.datasets.foggy import FoggyDriving, FoggyZurich
from ppar_lightning.data.datasets.folder import Folder
from ppar_lightning.data.datasets.gta5 import GTA5
from ppar_lightning.data.datasets.mapillary import Mapillary
from ppar_lightning.data.datasets.muses import CONDITIONS, MUSES, MUSESCondition
from ppar_lightning.data.datasets.streets import ProceduralStreets
from ppar_lightning.data.datasets.synthia import SYNTHIA
from ppar_lightning.data.datasets.wilddash import WildDash2
from ppar_lightning.streets.render import DOMAINS

DATASETS: Mapping[str, Callable[..., SegmentationDataset]] = {
    "gta": GTA5,
    "cityscapes": plain.Cityscapes,
    "bdd100k": plain.BDD100K,
    "mapillary": Mapillary,
    "idd": plain.IDD,
    "acdc": plain.ACDC,
    "acdc_fog": plain.ACDCFog,
    "acdc_night": plain.ACDCNight,
    "acdc_rain": plain.ACDCRain,
    "acdc_snow": plain.ACDCSnow,
    "dark_zurich": plain.DarkZurich,
    "nighttime_driving": plain.NighttimeDriving,
    "foggy_zurich": FoggyZurich,
    "foggy_driving": FoggyDriving,
    "muses": MUSES,
    **{f"muses_{sky}_{time}": partial(MUSESCondition, condition=f"{sky}/{time}") for sky, time in CONDITIONS},
    "wilddash2": WildDash2,
    "kitti": plain.KITTI,
    "camvid": CamVid,
    "synthia": SYNTHIA,
    "urbansyn": plain.UrbanSyn,
    "folder": Folder,
    **{style: partial(ProceduralStreets, style=style) for style in DOMAINS},
}
"""Name in a config -> class or function that opens the data set with `root`, `split`, `domain` and its own options."""
