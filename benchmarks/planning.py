"""What a training step takes, estimated for shipped configs: ``python benchmarks/planning.py``.

It prints the table of docs/scaling.md. ``--check`` compares estimates with measured peaks on the CPU instead. Models of
the hub are not needed: their architectures are written into a temporary folder.
"""

import argparse
import multiprocessing as mp
import os
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from jsonargparse import Namespace, dict_to_namespace
from transformers import CLIPConfig, Dinov2Config, ResNetConfig

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
    """Print the table, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        print(document(list(SETTINGS)), end="")
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
