"""What a training step takes, estimated for shipped configs: ``python benchmarks/planning.py``.

It prints the table of docs/scaling.md. ``--backbones`` prints that of docs/howto/foundation_models.md instead, and
``--check`` compares estimates with measured peaks on the CPU. Models of the hub are not needed: their architectures are
written into a temporary folder.
"""

import argparse
import multiprocessing as mp
import os
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace, dict_to_namespace
from transformers import (
    CLIPConfig,
    ConvNextConfig,
    Dinov2Config,
    DINOv3ViTConfig,
    PreTrainedConfig,
    ResNetConfig,
    SiglipConfig,
)

from ppar_lightning.cli import resolve
from ppar_lightning.doctor.plan import build, peak, plan, prepare, step, tower_of, trace
from ppar_lightning.latency import memory
from ppar_lightning.runs.markdown import table

CONFIGS = Path(__file__).parents[1] / "configs"
VIT = ("--model.segmenter.head", "pyramid", "--data.crop", "[518, 518]")
LORA = ("--model.segmenter.adapter", '{"kind": "lora", "rank": 32, "alpha": 32, "targets": "qkv"}')
DINOV2 = Dinov2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, patch_size=14, image_size=518)
SETTINGS = {
    "demo": ("demo", None, ()),
    "gta": ("gta", ResNetConfig(), ()),
    "gta, DINOv2-L": ("gta", DINOV2, VIT),
    "gta, DINOv2-L, LoRA": ("gta", DINOV2, (*VIT, *LORA)),
}
"""Column -> shipped config, architecture of another backbone, overrides."""
LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
ENDS = dict.fromkeys(["bos_token_id", "eos_token_id"])
BACKBONES: dict[str, PreTrainedConfig] = {
    "ResNet-50": ResNetConfig(),
    "ConvNeXt-T": ConvNextConfig(),
    "DINOv2-B": Dinov2Config(patch_size=14, image_size=518),
    "DINOv2-L": DINOV2,
    "DINOv3-L": DINOv3ViTConfig(**LARGE, num_register_tokens=4),
    "SigLIP 2-L": SiglipConfig(text_config=ENDS, vision_config={**LARGE, "patch_size": 16, "image_size": 512}),
}
"""Backbone -> the architecture of its published weights."""
ADAPTERS = {
    "none": "{kind: none}",
    "LoRA, rank 32, `qkv`": "{kind: lora, rank: 32, alpha: 32, dropout: 0.1, targets: qkv}",
    "SoMA, rank 16, `all`": "{kind: soma, rank: 16, alpha: 16, targets: all}",
    "SoMA, rank 16, `all`, from the ninth block": "{kind: soma, rank: 16, alpha: 16, targets: all, from_block: 8}",
}
NONE, LORA_32, SOMA_16, SOMA_LATE = ADAPTERS
ROWS = [
    ("ResNet-50", NONE, "deeplabv3plus", "tests/test_segmenter.py"),
    ("ConvNeXt-T", NONE, "deeplabv3plus", "tests/test_segmenter.py"),
    ("DINOv2-B", NONE, "concat", "tests/test_backbones.py"),
    ("DINOv2-B", LORA_32, "concat", "tests/test_configs.py"),
    ("DINOv2-B", SOMA_16, "concat", "tests/test_adapter.py"),
    ("DINOv2-L", NONE, "concat", "tests/test_backbones.py"),
    ("DINOv2-L", LORA_32, "concat", "tests/test_configs.py"),
    ("DINOv2-L", SOMA_16, "concat", "tests/test_adapter.py"),
    ("DINOv3-L", LORA_32, "concat", "tests/test_configs.py"),
    ("SigLIP 2-L", LORA_32, "concat", "tests/test_configs.py"),
    ("DINOv2-L", SOMA_LATE, "mask2former", "tests/test_configs.py"),
]
"""Backbone, adapter, head, and the tests that train such a backbone with few channels and random weights."""
CHECKED = {"demo": 8, "gta": 2}
"""Setting -> batch whose memory is measured."""
CROP = 256
"""Side of the crop that is measured with ResNet-50."""


def config_of(setting: str, folder: Path, *words: str) -> Namespace:
    """Return a setting's config, with models in the folder in place of the hub's."""
    name, backbone, others = SETTINGS[setting]
    if backbone is not None:
        backbone.save_pretrained(folder / setting)
        CLIPConfig(text_config={}, vision_config={"patch_size": 16}).save_pretrained(folder / "clip")
        local = ("--model.segmenter.backbone", str(folder / setting), "--model.ppar.clip", str(folder / "clip"))
        words = (*local, *others, *words)
    return dict_to_namespace(resolve(["--config", str(CONFIGS / f"{name}.yaml"), *words]))


def document(settings: list[str]) -> str:
    """Write the table of docs/scaling.md."""
    with tempfile.TemporaryDirectory() as folder:
        columns = [dict(plan(config_of(setting, Path(folder)))) for setting in settings]
    longest = sorted(columns, key=len, reverse=True)
    quantities = dict.fromkeys(name for column in longest for name in column)
    return table(["", *settings], ([name, *(column.get(name, "-") for column in columns)] for name in quantities))


def estimate(backbone: str, adapter: str, head: str, tests: str) -> list[str]:
    """Estimate a source-only step with AdamW on crops of 512 x 512 in bf16-mixed, and write a row of `backbones`."""
    network = BACKBONES[backbone]
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        words = ["--model.segmenter.backbone", folder, "--model.segmenter.adapter", ADAPTERS[adapter]]
        words += ["--model.segmenter.head", head, "--model.ppar.enabled", "false", "--data.crop", "[512, 512]"]
        words += ["--model.segmenter.patch", "16" if network.model_type == "dinov2" else "null"]
        config = dict_to_namespace(resolve(["--config", str(CONFIGS / "gta_dinov2.yaml"), *words]))
        module, flops, memory_of = trace(config)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    peaks = [f"{peak(memory_of['bf16-mixed'], batch):.2f}" for batch in (2, 4)]
    return [backbone, adapter, head, f"`{tests}`", f"{trained / 1e6:.2f}", f"{flops * 2 / 1e12:.3f}", *peaks]


def backbones(rows: list[tuple[str, str, str, str]]) -> str:
    """Write the table of docs/howto/foundation_models.md."""
    names = [
        "backbone",
        "adapter",
        "head",
        "tested with",
        "trained, M",
        "TFLOP, batch 2",
        "GiB, batch 2",
        "GiB, batch 4",
    ]
    return table(names, [estimate(*row) for row in rows], text=4)


def measure(pipe: Connection, config: Namespace, number: int) -> None:
    """Make a step with real tensors, and send the peak memory of this process, without the imports, in GiB."""
    imported = memory("cpu")
    torch.set_num_threads(1)
    module = build(config)
    optimizer = prepare(module)
    for part in filter(None, (module, tower_of(module))):
        for tensor in (*part.parameters(), *part.buffers()):
            tensor.detach().fill_(0.01 if tensor.is_floating_point() else 0)  # memory counts once it is written
    step(module, optimizer, (number, *config.data.crop), "32-true")
    pipe.send((memory("cpu") - imported) / 2**30)


def compare(setting: str) -> tuple[float, float]:
    """Return the estimated and the measured peak of a setting on the CPU, in 32-true, in GiB."""
    # Return freed blocks at once. Otherwise the peak would measure what the allocator keeps, not what the tensors need.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    words = ("--trainer.accelerator", "cpu", *(() if setting == "demo" else ("--data.crop", f"[{CROP}, {CROP}]")))
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(setting, Path(folder), *words)
        here, there = mp.Pipe()
        process = mp.get_context("spawn").Process(target=measure, args=(there, config, CHECKED[setting]))
        process.start()
        there.close()
        measured = here.recv()
        process.join()
        return peak(trace(config)[2]["32-true"], CHECKED[setting]), measured


def main() -> None:
    """Print one of the tables, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--backbones", action="store_true")
    options = parser.parse_args()
    if not options.check:
        print(backbones(ROWS) if options.backbones else document(list(SETTINGS)), end="")
        return
    pairs = {setting: compare(setting) for setting in CHECKED}
    rows = [
        [
            setting if setting == "demo" else f"{setting}, crop {CROP}",
            str(CHECKED[setting]),
            f"{guess:.3f}",
            f"{real:.3f}",
            f"{guess / real - 1:+.0%}",
        ]
        for setting, (guess, real) in pairs.items()
    ]
    print(table(["setting", "batch", "estimated GiB", "measured GiB", "estimate is"], rows), end="")


if __name__ == "__main__":
    main()
