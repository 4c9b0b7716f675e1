"""Images per second of an evaluation and of the forward pass alone: ``python benchmarks/evaluation.py``.

An evaluation is what ``ppar test`` does with files in PNG: decoding, transfer, forward pass, prediction and scores.
The forward pass has images of the same sizes on the device: for windows, batches of as many as the evaluation takes at
once. On a GPU the evaluation should reach at least 0.9 of the forward pass on whole images, and 0.8 in windows. The two
take turns round by round, so that other load on the machine slows both. Weights are random.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from data_loading import streets, write
from rich.console import Console
from rich.table import Table
from torch.nn.utils import convert_conv2d_weight_memory_format
from training_step import SETTINGS

from ppar_lightning.callbacks.noise import quieten
from ppar_lightning.callbacks.scores import DomainScores
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.images.window import Window
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter import sliding

QUIET: Any = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
FIRST = 2
"""Number of batches that warm up."""


class Clock(L.Callback):
    """Seconds of a test's batches, without those that warm up."""

    begun = seconds = 0.0

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int, *_: Any
    ) -> None:
        """Start the clock."""
        if index == FIRST:
            wait(pl_module.device)
            self.begun = time.perf_counter()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop it."""
        wait(pl_module.device)
        self.seconds = time.perf_counter() - self.begun


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def evaluate(module: PPARModule, root: Path, window: Window | None, options: argparse.Namespace) -> float:
    """Test the images of a folder; return images per second."""
    pattern: Any = {"images": "images/*.png", "labels": "labels/*.png"}
    domains = {"streets": Domain("folder", str(root), options=pattern)}
    data = DomainDataModule(domains, window=window, workers=options.workers)
    data.sources, data.unseen = {}, domains  # nothing is trained
    clock = Clock()
    given: Any = {"accelerator": options.device, "devices": 1, "precision": options.precision, **QUIET}
    trainer = L.Trainer(default_root_dir=root, callbacks=[DomainScores(), clock], **given)
    trainer.test(module, datamodule=data, verbose=False)
    return (options.images - FIRST) / clock.seconds


def forward(module: PPARModule, image: torch.Tensor, options: argparse.Namespace) -> float:
    """Segment a batch again and again; return batches per second."""
    half = "bf16" in options.precision
    if half and options.device == "cuda":
        convert_conv2d_weight_memory_format(module.segmenter, torch.channels_last)
    module.to(image.device).eval()
    with torch.inference_mode():
        for turn in range(options.images):
            if turn == FIRST:
                wait(image.device)
                begun = time.perf_counter()
            with torch.autocast(options.device, torch.bfloat16, enabled=half):  # anew each time, as Lightning does
                module(image)
        wait(image.device)
    return (options.images - FIRST) / (time.perf_counter() - begun)


def compare(name: str, module: PPARModule, root: Path, options: argparse.Namespace) -> list[str]:
    """Measure whole images or windows; return a row of the table."""
    window = Window(options.window, 2 * options.window // 3) if name == "windows" else None
    height, width = options.windowed if window else options.whole
    for index, pair in enumerate(streets(options.images, width, height)):
        write(root / f"images/{index}.png", root / f"labels/{index}.png", pair)
    at_once = parts = 1
    if window:
        height, width = (min(side, window.size) for side in (height, width))
        parts = len(
            sliding.lay_out(torch.Size((1, 3, *options.windowed)), window.size, window.stride, torch.device("cpu"))[0]
        )
        at_once = min(parts, max(1, sliding.PIXELS[options.device] // (height * width)))
    image = torch.rand(at_once, 3, height, width, device=options.device)
    rounds: list[list[float]] = []
    for _ in range(options.rounds):
        found = [evaluate(module, root, window, options), forward(module, image, options) * at_once / parts]
        if window:
            pixels, sliding.PIXELS[options.device] = sliding.PIXELS[options.device], 1
            found.append(evaluate(module, root, window, options))
            sliding.PIXELS[options.device] = pixels
        rounds.append(found)
    tested, bare, *others = (statistics.median(each) for each in zip(*rounds, strict=True))
    ratio = statistics.median(each[0] / each[1] for each in rounds)
    gains = [statistics.median(each[0] / each[2] for each in rounds)] if window else []
    size = f"{options.windowed if window else options.whole}, {parts} of {height} x {width}, {at_once} at once"
    return [name, size, f"{tested:.2f}", f"{bare:.2f}", f"{ratio:.2f}", *(f"{each:.2f}" for each in (*others, *gains))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=[*SETTINGS], default="resnet50", help="network")
    parser.add_argument("--whole", type=int, nargs=2, default=[1024, 2048], help="height and width of whole images")
    parser.add_argument("--windowed", type=int, nargs=2, default=[1052, 1914], help="those of images seen in windows")
    parser.add_argument("--window", type=int, default=512, help="side of a window")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", help="as --trainer.precision (default: bf16-mixed on a GPU, 32-true on a CPU)")
    options = parser.parse_args()
    options.precision = options.precision or {"cuda": "bf16-mixed", "cpu": "32-true"}[options.device]
    quieten()
    table = Table(title=f"images per second, {options.setting} on {options.device} in {options.precision}")
    for column in ("protocol", "size", "evaluation", "forward", "ratio", "one by one", "gain"):
        table.add_column(column, justify="left" if column in ("protocol", "size") else "right")
    with tempfile.TemporaryDirectory() as folder:
        segmenter, *_ = SETTINGS[options.setting](Path(folder), torch.device(options.device))
        module = PPARModule(segmenter, PPAROptions(enabled=False))
        for name in ("whole", "windows"):
            table.add_row(*compare(name, module, Path(folder, name), options))
    Console().print(table)


if __name__ == "__main__":
    main()
