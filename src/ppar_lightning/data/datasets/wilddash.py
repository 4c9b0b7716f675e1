"""WildDash 2: hard scenes of roads from all over the world, 1920x1080, with panoptic labels."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ppar_lightning.data.dataset import FolderDataset
from ppar_lightning.data.datasets.label_ids import shipped_ids
from ppar_lightning.data.layout import Layout
from ppar_lightning.images.classes import IGNORE
from ppar_lightning.images.colour_key import PACK
from ppar_lightning.images.decoding import RESTORE, read_coloured_label

IDS = dict.fromkeys(range(39), IGNORE) | shipped_ids("wilddash2")


class WildDash2(FolderDataset):
    """The 4,256 public images without splits, opened as `all`; the test images have no public labels.

    A label is a picture whose colours number segments, and `panoptic.json` names the category of each segment.

    Raises:
        ValueError: `panoptic.json` is missing or damaged.
    """

    layouts = (Layout("images/*.jpg", "panoptic/*.png", IDS),)
    splits = ("all",)
    train_split = "all"
    eval_split = "all"
    counts: ClassVar = {"all": 4256}
    id_remedy = "-1 is a segment that panoptic.json does not name; get both again, of one version"

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        path = self.root / "panoptic.json"
        try:
            content = path.read_bytes()
            found = json.loads(content)
            files = {each["id"]: Path(each["file_name"]).stem for each in found["images"]}
            self.categories: dict[str, dict[int, int]] = {
                files[each["image_id"]]: {part["id"]: part["category_id"] for part in each["segments_info"]}
                for each in found["annotations"]
            }
        except Exception as error:  # such a file may lack, or hold, anything
            fault = f"{path} does not name the segments of the labels ({type(error).__name__})"
            raise ValueError(f"{fault}; {RESTORE}") from error
        self.code += hashlib.sha256(content).digest()

    def decode_label(self, path: Path) -> npt.NDArray[np.integer]:
        """Read the category of each pixel: (H, W) ids, 0 without a segment and -1 where no category is known."""
        colours = read_coloured_label(path)
        segments, place = np.unique(colours @ PACK, return_inverse=True)
        known = {0: 0, **self.categories.get(path.stem, {})}
        return np.array([known.get(segment, -1) for segment in segments.tolist()])[place].reshape(colours.shape[:2])
