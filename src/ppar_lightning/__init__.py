"""PPAR in PyTorch Lightning: semantic segmentation that generalises to domains it was not trained on."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppar_lightning.load import load_segmenter
    from ppar_lightning.segmenter.segmenter import Segmenter

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations would ask the network for its newest version

__all__ = ["Segmenter", "load_segmenter"]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562), as torch and transformers take seconds to import."""
    if name not in __all__:
        raise AttributeError(f"module 'ppar_lightning' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module({"Segmenter": f"{__name__}.segmenter.segmenter"}.get(name, f"{__name__}.load")), name)
