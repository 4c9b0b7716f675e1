"""The classes that predictions are scored in, where the segmenter has others."""

from textwrap import shorten

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from ppar_lightning.images.classes import ClassList


def scored_as(predicted: ClassList, scored: ClassList, stage: str) -> Tensor | None:
    """Map the classes that a segmenter predicts to those that it is scored in, by name or else by group.

    Args:
        predicted: The K classes of the segmenter.
        scored: The classes of the data.
        stage: Stage of the trainer.

    Returns:
        (K,) train ids among ``scored``, their number for a class that they lack; None if the names are the same.

    Raises:
        ValueError: The stage trains, or there is no common class.
    """
    if predicted.names == scored.names:
        return None
    ids = predicted.ids_in(scored, missing=len(scored))
    common = [scored[k] for k in sorted({*ids} - {len(scored)})]
    if stage == "fit" or not common:
        fault = f"the segmenter predicts {len(predicted)} classes ({predicted[0]}, ...)"
        remedy = "give Segmenter and data.classes the same list" if common else "give --data.classes with common names"
        raise ValueError(f"{fault}, but data.classes are {len(scored)} ({scored[0]}, ...): {remedy}")
    wrong = shorten(", ".join(name for name, k in zip(predicted, ids, strict=True) if k == len(scored)), 300)
    line = f"scored on {len(common)} of {len(scored)} classes, which the segmenter knows: {', '.join(common)}"
    rank_zero_warn(line + f"; its predictions of {wrong} count as wrong" * bool(wrong))
    return torch.tensor(ids)
