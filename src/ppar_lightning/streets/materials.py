"""The materials of shapes and their properties, from the table `materials.yaml`."""

from enum import IntEnum
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import yaml

Colours = npt.NDArray[np.floating]
"""(materials, 4 variants, RGB) in [0, 1]."""

Material = IntEnum(
    "Material",
    "SKY GRASS ASPHALT MARKING PAVEMENT KERB RAIL FACADE WINDOW LIT_WINDOW ROOF WALL FENCE METAL HOUSING "
    "LAMP_RED LAMP_AMBER LAMP_GREEN STREET_LAMP SIGN SIGN_FACE FOLIAGE FOLIAGE_LIGHT TRUNK "
    "SKIN HAIR SHIRT TROUSERS RIDER_SHIRT HELMET "
    "CAR_PAINT TRUCK_PAINT CARGO BUS_PAINT TRAIN_PAINT STRIPE GLASS TYRE HEADLAMP TAIL_LAMP MOTOR_PAINT SPOKES FRAME",
    start=0,
)
"""The materials of shapes; a style gives each material its colours."""

_TABLE = yaml.safe_load((files(__package__) / "materials.yaml").read_text())
_ROWS = [_TABLE[material.name] for material in Material]


def column(name: str, default: float = 0.0) -> npt.NDArray[np.float32]:
    """Return a property of every material, (materials,); materials without it have the default."""
    return np.array([row.get(name, default) for row in _ROWS], dtype=np.float32)


def palette(name: str) -> Colours:
    """Return the colours of a palette by its name, `game` or `city`."""
    rows = [[tuple(bytes.fromhex(variant)) for variant in row.get(name, row["game"]).split()] for row in _ROWS]
    return np.array(rows, dtype=np.float32) / 255
