"""Time, peak memory and FLOPs of a training step, source only and PPAR in turn: ``python benchmarks/training_step.py``.

Each variant runs in a separate process, so that its peak memory is measured alone. They take turns step by step, so
that other load on the machine slows both. If the figure does not depend on the weights, they are random and no hub is
needed. The shares are those of the device's measured matmul rate (bf16 on CUDA, fp32 on a CPU) that the segmenter's
FLOPs reach; what PPAR computes counts as time only. Goals on a GPU, for vit_large at the largest batch that fits,
source only: 35 % eager, 45 % compiled; ratios of at most 1.15 in time and 1.05 in memory.
"""

import argparse
import multiprocessing as mp
import os
import statistics
import tempfile
import time
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel, Dinov2Config, ResNetConfig

from ppar_lightning.images.classes import CITYSCAPES
from ppar_lightning.latency import memory
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.supervised import supervised_terms
from ppar_lightning.segmenter.segmenter import Segmenter

CLASSES = len(CITYSCAPES)

Setting = tuple[Segmenter, PPAROptions, tuple[int, int, int]]


def demo(folder: Path, device: torch.device) -> Setting:
    """Return the demo's segmenter, its options and (batch, height, width)."""
    segmenter = Segmenter("efficientnet_lite0", "fpn", pretrained=False, decoder_channels=64)
    return segmenter, PPAROptions(visual_size=128, clip_dtype="float32"), (8, 128, 256)


def resnet50(folder: Path, device: torch.device) -> Setting:
    """Return ResNet-50 DeepLabV3+ with a full-size CLIP ViT-B/16 that gets 224-pixel images."""
    ResNetConfig().save_pretrained(folder / "resnet")
    segmenter = Segmenter(str(folder / "resnet"), head="deeplabv3plus", pretrained=False)
    return segmenter, large_clip(folder), (4, 768, 768) if device.type == "cuda" else (2, 512, 512)


def vit_large(folder: Path, device: torch.device) -> Setting:
    """Return DINOv2-L with a pyramid and the CLIP of ``resnet50``; off CUDA, 4 of its 24 blocks at a quarter width."""
    large = device.type == "cuda"
    width, depth = (1024, 24) if large else (256, 4)
    shape = Dinov2Config(hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64, patch_size=14)
    shape.image_size = 518
    shape.save_pretrained(folder / "dinov2")
    segmenter = Segmenter(str(folder / "dinov2"), head="pyramid", pretrained=False)
    return segmenter, large_clip(folder), (4, 518, 518) if large else (2, 224, 336)


def large_clip(folder: Path) -> PPAROptions:
    """Write a CLIP ViT-B/16 and text prototypes with random weights, if they are not there, and name them."""
    if not (folder / "text.npy").exists():
        text = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
        CLIPModel(CLIPConfig(text_config=text, vision_config={"patch_size": 16})).save_pretrained(folder / "clip")
        np.save(folder / "text.npy", np.random.default_rng(0).normal(size=(CLASSES, 512)).astype(np.float32))
    return PPAROptions(clip=str(folder / "clip"), text_embeddings=str(folder / "text.npy"), visual_size=224)


SETTINGS = {"demo": demo, "resnet50": resnet50, "vit_large": vit_large}


class Variant(NamedTuple):
    """What is trained, and how."""

    setting: str
    ppar: bool
    backend: str
    """Of ``torch.compile`` for backbone and head; ``eager`` compiles nothing."""
    folder: Path
    device: torch.device


class Trial:
    """A training: ``run`` is one step of forward, losses, backward, optimiser and banks."""

    def __init__(self, variant: Variant) -> None:
        """Build it, count the FLOPs of an image, and compile what is to be compiled."""
        torch.manual_seed(0)
        device = self.device = variant.device
        self.segmenter, options, (self.batch, *size) = SETTINGS[variant.setting](variant.folder, device)
        self.segmenter.to(device).train()
        objective = PPAR(options, self.segmenter.decoder_channels, CITYSCAPES.words) if variant.ppar else None
        self.objective = None if objective is None else objective.to(device)
        parameters = [*self.segmenter.parameters(), *(self.objective.parameters() if self.objective else ())]
        trained = [p for p in parameters if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, fused=True)

        @cache
        def inputs(batch: int) -> tuple[Tensor, Tensor]:
            coarse = torch.randint(0, CLASSES, (batch, *(-(-side // 32) for side in size)), device=device)
            label = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, : size[0], : size[1]]
            return torch.rand(batch, 3, *size, device=device), label

        self.inputs = inputs
        with FlopCounterMode(display=False) as counter:
            self.run(self.batch)
        self.flops = counter.get_total_flops() / self.batch
        if variant.backend != "eager":
            for part in (self.segmenter.backbone, self.segmenter.head):
                part.compile(backend=variant.backend)

    def run(self, batch: int) -> None:
        """Take a step."""
        image, label = self.inputs(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self.segmenter.outputs(image)
            if self.objective is None:
                loss = torch.stack(list(supervised_terms(output, label).values())).sum()
            else:
                loss = self.objective(output, image, label, 0.6, diagnose=False).total
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.objective is not None:
            self.objective.update()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def worker(pipe: Connection, variant: Variant) -> None:
    """Take a step of the batch that the parent asks for; reply with seconds and peak MiB, None if it does not fit."""
    imported = memory("cpu")
    training = Trial(variant)
    pipe.send((training.batch, training.flops))
    while batch := pipe.recv():
        if variant.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, begin = None, time.perf_counter()
        try:
            training.run(batch)
            seconds = time.perf_counter() - begin
        except torch.cuda.OutOfMemoryError:
            training.optimizer.zero_grad()
        peak = (memory("cpu") - imported) / 2**20
        if variant.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.empty_cache() if seconds is None else None
        pipe.send(None if seconds is None else (seconds, peak))


class Process:
    """A training in a process of its own, which ends with the block."""

    def __init__(self, variant: Variant) -> None:
        """Start it, and wait until it is built."""
        # Return freed blocks at once. Otherwise the peak would measure what the allocator keeps, not what tensors need.
        os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**20)
        context = mp.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=worker, args=(end, variant), daemon=True)
        self.process.start()
        self.batch, self.flops = self.pipe.recv()

    def ask(self, batch: int) -> tuple[float, float] | None:
        """Let it take a step; return seconds and peak MiB, None if it does not fit."""
        self.pipe.send(batch)
        return self.pipe.recv()

    def end(self) -> None:
        """End it, which frees its memory."""
        self.pipe.send(0)
        self.process.join()


def in_turn(trainings: list[Process], batch: int, steps: int) -> list[list[tuple[float, float]]]:
    """Let trainings take steps in turn, after two to warm up; return the seconds and peak MiB of each."""
    rounds = [[training.ask(batch) for training in trainings] for _ in range(steps + 2)]
    return [[each for each in steps if each is not None][2:] for steps in zip(*rounds, strict=True)]


def at_the_largest(variants: list[Variant], steps: int) -> tuple[int, float, list[list[tuple[float, float]]]]:
    """Train at the batch, found by doubling, that just fits the last variant, each alone on the device.

    Returns:
        The batch, the FLOPs of an image for the first variant, and the seconds and peak MiB of each.
    """
    batch, measured = 0, list[list[tuple[float, float]]]()
    for variant in reversed(variants):
        training = Process(variant)
        if not batch:
            batch = training.batch
            while training.ask(2 * batch) is not None:
                batch *= 2
        measured.insert(0, in_turn([training], batch, steps)[0])
        training.end()
    return batch, training.flops, measured


def matmul_rate(device: torch.device) -> float:
    """Measure the FLOPs per second of a product of large matrices, the best of 10."""
    cuda = device.type == "cuda"
    side = 8192 if cuda else 1024
    matrix = torch.rand(side, side, device=device, dtype=torch.bfloat16 if cuda else torch.float32)
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        matrix @ matrix
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 2 * side**3 / min(times)


def row(batch: int, flops: float, rate: float, measured: list[list[tuple[float, float]]]) -> list[str]:
    """Write the cells of the table for source only and PPAR."""
    seconds = [[each for each, _ in steps] for steps in measured]
    plain, ppar = (statistics.mean(each) for each in seconds)  # a median would leave out the steps that do more
    peaks = [max(peak for _, peak in steps) for steps in measured]
    shares = [f"{100 * batch * flops / each / rate:.0f} %" for each in (plain, ppar)]
    memory = [f"{peak:.0f}" for peak in peaks]
    times = [f"{1e3 * plain:.0f}", f"{1e3 * ppar:.0f}", f"{ppar / plain:.2f}"]
    return [str(batch), *times, *memory, f"{peaks[1] / peaks[0]:.2f}", f"{batch * flops / 1e12:.2f}", *shares]


COLUMNS = ("setting", "compile", "batch", "source only ms", "PPAR ms", "ratio", "source only MiB", "PPAR MiB", "ratio")


def main() -> None:
    """Measure and print."""
    cuda = torch.cuda.is_available()
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="all")
    parser.add_argument("--steps", type=int, default=12, help="a multiple of ppar.context_every")
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    backends = ["eager", "inductor"] if cuda else ["eager"]
    parser.add_argument("--compile", nargs="+", default=backends, help="backends of torch.compile; eager is without")
    options = parser.parse_args()
    device = torch.device(options.device)
    rate = matmul_rate(device)
    title = f"training step on {device}, mean of {options.steps}; matmul rate {rate / 1e12:.2f} TFLOP/s"
    table = Table(title=title)
    for column in (*COLUMNS, "TFLOP", "source only share", "PPAR share"):
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS if options.setting == "all" else [options.setting]:
            for backend in options.compile:
                variants = [Variant(setting, ppar, backend, Path(folder), device) for ppar in (False, True)]
                both = [Process(variant) for variant in variants]  # one after the other: the first writes the weights
                batch, flops = both[0].batch, both[0].flops
                measured = in_turn(both, batch, options.steps)
                for each in both:
                    each.end()
                table.add_row(setting, backend, *row(batch, flops, rate, measured))
                if device.type == "cuda":
                    batch, flops, measured = at_the_largest(variants, options.steps)
                    table.add_row(setting, backend, *row(batch, flops, rate, measured))
    Console().print(table)


if __name__ == "__main__":
    main()
