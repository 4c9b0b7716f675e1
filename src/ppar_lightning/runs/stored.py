"""What a checkpoint says about its networks, so that an evaluation reads no pretrained model and no embeddings."""

from collections.abc import Mapping
from typing import Any

from ppar_lightning.images.classes import CITYSCAPES


def described(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a checkpoint's segmenter; in place of classes, 0.1.0 had their number.

    Args:
        checkpoint: Content of a checkpoint of a run.
    """
    found = dict(checkpoint.get("segmenter") or {})
    if (number := found.pop("num_classes", None)) is not None:
        found["classes"] = "cityscapes19" if number == len(CITYSCAPES) else [str(k) for k in range(number)]
    return found


def stored(checkpoint: Mapping[str, Any], segmenter: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Complete the options of a segmenter by what a checkpoint of a run says.

    Args:
        checkpoint: Its content.
        segmenter: Options of the segmenter.

    Returns:
        Options that differ: nothing pretrained, unless the checkpoint refers to pretrained weights; the classes; and
        the config of the backbone, unless one is given or the checkpoint has another backbone; and the width of the
        text prototypes, None if the checkpoint has none.
    """
    known = described(checkpoint)
    config = known.get("backbone_config") if known.get("backbone") == segmenter["backbone"] else None
    found = {"pretrained": False, "backbone_config": segmenter.get("backbone_config") or config}
    if "base" in checkpoint:
        found = {"pretrained": True, "backbone_config": None}
    text = checkpoint["state_dict"].get("objective.prototypes.otp")
    return found | {key: known[key] for key in ("classes",) if key in known}, None if text is None else text.shape[1]
