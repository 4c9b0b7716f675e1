"""What a checkpoint says about its networks, so that an evaluation reads no pretrained model and no embeddings."""

from collections.abc import Mapping
from typing import Any


def stored(checkpoint: Mapping[str, Any], backbone: str) -> tuple[dict[str, Any] | None, int | None]:
    """Read what a checkpoint of a run says.

    Args:
        checkpoint: Its content.
        backbone: Name of the backbone in the options.

    Returns:
        Config of the backbone, None if the checkpoint has another backbone; width of the text prototypes, None if the
        checkpoint has none.
    """
    described = checkpoint.get("segmenter") or {}
    config = described.get("backbone_config") if described.get("backbone") == backbone else None
    text = checkpoint["state_dict"].get("objective.prototypes.otp")
    return config, None if text is None else text.shape[1]
