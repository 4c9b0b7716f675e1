"""Tiny stand-ins for the models that a config names, and a config over small trees."""

from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import ResNetConfig, ResNetModel
from trees import camvid, urbansyn


def resnet(folder: Path) -> str:
    """A small ResNet with weights, as a folder that stands for the hub's."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    ResNetModel(config).save_pretrained(folder)
    return str(folder)


def text_embeddings(path: Path, width: int = 8) -> str:
    """A file of 19 directions."""
    np.save(path, np.random.default_rng(0).normal(size=(19, width)).astype(np.float16))
    return str(path)


def small_config(folder: Path) -> str:
    """A config that trains two steps on four images, with one unseen domain, and no CLIP."""
    config = {
        "trainer": {"accelerator": "cpu", "max_steps": 2, "logger": False}
        | dict.fromkeys(["enable_progress_bar", "enable_model_summary"], False),
        "prediction_grid": {"images": 0},
        "model": {
            "segmenter": {"backbone": resnet(folder / "resnet"), "head": "fpn", "decoder_channels": 8},
            "ppar": {"text_embeddings": text_embeddings(folder / "text.npy"), "context": "features"},
        },
        "data": {
            "sources": {"camvid": {"root": str(camvid(folder / "camvid", {"train": 4, "val": 1, "test": 1}))}},
            "unseen": {"urbansyn": {"root": str(urbansyn(folder / "urbansyn", 1))}},
            **{"crop": [32, 32], "batch_size": 2, "workers": 0},
        },
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "small.yaml")
