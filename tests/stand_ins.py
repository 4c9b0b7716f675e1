"""Tiny stand-ins for the models that a config names, and a config over small trees."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import (
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    ConvNextConfig,
    Dinov2Config,
    DINOv3ViTConfig,
    EomtConfig,
    Mask2FormerConfig,
    OneFormerConfig,
    ResNetConfig,
    ResNetModel,
    SegformerConfig,
    SiglipConfig,
    SwinConfig,
    UperNetConfig,
)
from trees import camvid, urbansyn

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.segmenter.pretrained import SHIPPED


def resnet(folder: Path) -> str:
    """A small ResNet with weights, as a folder that stands for the hub's."""
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    ResNetModel(config).save_pretrained(folder)
    return str(folder)


def plain_vit(name: str, folder: Path) -> str:
    """A small ViT of the family of a model on the hub, twelve blocks deep, as a folder that stands for it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 12, "num_attention_heads": 2}
    text = {**sizes, "num_hidden_layers": 1, "vocab_size": 50}
    families: dict[str, Any] = {
        "dinov2": lambda: Dinov2Config(**sizes, patch_size=14, image_size=56, mlp_ratio=2),
        "dinov3": lambda: DINOv3ViTConfig(**sizes, patch_size=16, image_size=64),
        "siglip2": lambda: SiglipConfig(text_config=text, vision_config={**sizes, "patch_size": 16, "image_size": 64}),
    }
    (family,) = (family for family in families if family in name)
    AutoModel.from_config(families[family]()).save_pretrained(folder)
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


def foreign(kind: str, folder: Path, labels: Sequence[str] = CITYSCAPES) -> str:
    """A tiny segmentation model of transformers with random weights and classes of its own, as its owner saves it."""
    torch.manual_seed(0)
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    stages = {"depths": [1, 1, 1, 1], "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    swin = SwinConfig(embed_dim=8, num_heads=[1, 1, 1, 1], window_size=4, image_size=64, **stages)
    queries = {"hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 5}
    queries |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16}
    eight = {"hidden_sizes": [8, 8, 8, 8]}
    config: Any = {
        "segformer": lambda: SegformerConfig(
            **eight, depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8
        ),
        "upernet": lambda: UperNetConfig(
            backbone_config=ConvNextConfig(**eight, **stages), hidden_size=8, use_auxiliary_head=False
        ),
        "mask2former": lambda: Mask2FormerConfig(
            backbone_config=swin, feature_size=32, mask_feature_size=32, **queries
        ),
        "oneformer": lambda: OneFormerConfig(
            backbone_config=swin, mask_dim=32, conv_dim=32, text_encoder_width=16, **queries
        ),
        "eomt": lambda: EomtConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, num_blocks=1
        ),
    }[kind]()
    config.update(named)
    universal = kind in ("mask2former", "oneformer", "eomt")
    loader = AutoModelForUniversalSegmentation if universal else AutoModelForSemanticSegmentation
    loader.from_config(config).save_pretrained(folder)
    if kind == "oneformer":
        for file in SHIPPED["tinyclip"].glob("tokenizer*.json"):
            shutil.copy(file, folder)
    return str(folder)
