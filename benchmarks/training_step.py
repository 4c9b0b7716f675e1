"""Time and peak memory of a training step, source only and PPAR in turn: ``python benchmarks/training_step.py``.

Each variant runs in a separate process, so that its peak memory is measured alone. They take turns step by step, so
that other load on the machine slows both. If the figure does not depend on the weights, they are random and no hub is
needed.
"""

import argparse
import multiprocessing as mp
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import CLIPConfig, CLIPModel, ResNetConfig

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.supervised import supervised_terms
from ppar_lightning.segmenter.segmenter import Segmenter

CLASSES = len(CITYSCAPES)


def demo(folder: Path) -> tuple[Segmenter, PPAROptions, tuple[int, int, int]]:
    """Return the demo's segmenter, its options and (batch, height, width)."""
    segmenter = Segmenter("efficientnet_lite0", "fpn", pretrained=False, decoder_channels=64)
    return segmenter, PPAROptions(visual_size=128, clip_dtype="float32"), (8, 128, 256)


def resnet50(folder: Path) -> tuple[Segmenter, PPAROptions, tuple[int, int, int]]:
    """Return ResNet-50 DeepLabV3+ with a full-size CLIP ViT-B/16 that gets 224-pixel images."""
    torch.manual_seed(0)
    if not (folder / "text.npy").exists():
        ResNetConfig().save_pretrained(folder / "resnet")
        text = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
        CLIPModel(CLIPConfig(text_config=text, vision_config={"patch_size": 16})).save_pretrained(folder / "clip")
        np.save(folder / "text.npy", np.random.default_rng(0).normal(size=(CLASSES, 512)).astype(np.float32))
    segmenter = Segmenter(str(folder / "resnet"), head="deeplabv3plus", pretrained=False)
    options = PPAROptions(clip=str(folder / "clip"), text_embeddings=str(folder / "text.npy"), visual_size=224)
    return segmenter, options, (2, 512, 512)


SETTINGS = {"demo": demo, "resnet50": resnet50}


def make_step(setting: str, ppar: bool, folder: Path, device: torch.device) -> Callable[[], None]:
    """Build one training step: forward, losses, backward, optimiser, banks."""
    segmenter, options, (batch, height, width) = SETTINGS[setting](folder)
    segmenter.to(device).train()
    objective = PPAR(options, segmenter.decoder_channels, CITYSCAPES.words).to(device) if ppar else None
    parameters = [*segmenter.parameters(), *(objective.parameters() if objective else ())]
    optimizer = torch.optim.SGD([p for p in parameters if p.requires_grad], lr=1e-3, momentum=0.9)
    image = torch.rand(batch, 3, height, width, device=device)
    label = torch.randint(0, CLASSES, (batch, height // 32, width // 32), device=device)
    label = label.repeat_interleave(32, 1).repeat_interleave(32, 2)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = segmenter.outputs(image)
            if objective is None:
                loss = torch.stack(list(supervised_terms(output, label).values())).sum()
            else:
                loss = objective(output, image, label, 0.6).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if objective is not None:
            objective.update()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def worker(pipe: Connection, setting: str, ppar: bool, folder: Path, device: torch.device) -> None:
    """Run a step at each request of the parent; reply with its seconds and the peak memory so far, in MiB."""
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = make_step(setting, ppar, folder, device)
    pipe.send("ready")
    while pipe.recv():
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
        else:
            peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported) / 2**10
        pipe.send((seconds, peak))


def measure(setting: str, steps: int, folder: Path, device: torch.device) -> tuple[list[list[float]], list[float]]:
    """Run both variants in turn; return the seconds of each and the peak memory of each."""
    # Return freed blocks at once. Otherwise the peak would measure what the allocator keeps, not what the tensors need.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
    context = mp.get_context("spawn")
    pipes, processes = [], []
    for ppar in (False, True):
        pipe, end = context.Pipe()
        process = context.Process(target=worker, args=(end, setting, ppar, folder, device), daemon=True)
        process.start()
        pipe.recv()  # one after the other, because the first writes the random weights
        pipes.append(pipe)
        processes.append(process)
    seconds: list[list[float]] = [[], []]
    peaks = [0.0, 0.0]
    for turn in range(steps + 2):
        for which, pipe in enumerate(pipes):
            pipe.send(True)
            elapsed, peaks[which] = pipe.recv()
            if turn >= 2:  # the first two warm up
                seconds[which].append(elapsed)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()
    return seconds, peaks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="all")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    table = Table(title=f"training step on {options.device}, median of {options.steps}")
    for column in ("setting", "source only s", "PPAR s", "ratio", "source only MiB", "PPAR MiB", "ratio"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS if options.setting == "all" else [options.setting]:
            seconds, peaks = measure(setting, options.steps, Path(folder), torch.device(options.device))
            plain, ppar = (statistics.median(each) for each in seconds)
            ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
            row = [f"{plain:.3f}", f"{ppar:.3f}", f"{ratio:.2f}"]
            table.add_row(setting, *row, f"{peaks[0]:.0f}", f"{peaks[1]:.0f}", f"{peaks[1] / peaks[0]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
