"""What a checkpoint says about its networks, so that an evaluation reads no pretrained model and no embeddings."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Stored(NamedTuple):
    """What a module is built from, besides its options, if the weights of a checkpoint follow."""

    backbone_config: dict[str, Any] | None
    """Config of the backbone; None if the checkpoint has another backbone than the options name."""
    text_width: int | None
    """Width of the text prototypes; None if the checkpoint has none."""


def stored(checkpoint: Mapping[str, Any], backbone: str) -> Stored:
    """Read what a checkpoint of a run says.

    Args:
        checkpoint: Its content.
        backbone: Name of the backbone in the options.
    """
    described = checkpoint.get("segmenter") or {}
    config = described.get("backbone_config") if described.get("backbone") == backbone else None
    text = checkpoint["state_dict"].get("objective.prototypes.otp")
    return Stored(config, None if text is None else text.shape[1])
