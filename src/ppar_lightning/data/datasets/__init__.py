"""The data sets by name."""

from collections.abc import Callable, Mapping
from functools import partial

from ppar_lightning.data.dataset import SegmentationDataset
from ppar_lightning.data.datasets.bdd100k import BDD100K
from ppar_lightning.data.datasets.camvid import CamVid
from ppar_lightning.data.datasets.cityscapes import Cityscapes
from ppar_lightning.data.datasets.gta5 import GTA5
from ppar_lightning.data.datasets.mapillary import Mapillary
from ppar_lightning.data.datasets.procedural import ProceduralStreets
from ppar_lightning.data.procedural import DOMAINS

DATASETS: Mapping[str, Callable[..., SegmentationDataset]] = {
    "gta": GTA5,
    "cityscapes": Cityscapes,
    "bdd100k": BDD100K,
    "mapillary": Mapillary,
    "camvid": CamVid,
    **{style: partial(ProceduralStreets, style=style) for style in DOMAINS},
}
"""Name in a config -> what opens it, given `root`, `split`, `domain` and the options of its own."""
