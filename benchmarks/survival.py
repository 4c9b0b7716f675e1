"""Kill a small training at random moments and resume it: ``python benchmarks/survival.py``.

Each run is killed once by SIGKILL, at any moment from its start to the end of its training, and then continued until
it is finished. It counts as equal if its weights, banks, statistics, optimiser, schedule and the logged values of
every step are bit for bit those of an uninterrupted run.
"""

import argparse
import csv
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ppar_lightning.callbacks import last_checkpoint
from ppar_lightning.cli import main as ppar

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
TRAINER = "--trainer.log_every_n_steps 1 --trainer.limit_val_batches 0 --trainer.accumulate_grad_batches 2"
QUIET = "--trainer.enable_progress_bar false --trainer.enable_model_summary false"
DATA = "--data.sources.game.limit 8 --data.batch_size 1 --data.crop [64,128] --data.workers 1"
MODEL = "--model.segmenter.backbone resnet_small --model.segmenter.pretrained false"
Rows = dict[str, dict[str, str]]


def train(folder: Path, steps: int, interval: float) -> None:
    """Start or continue a run in a separate process."""
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    torch.set_num_threads(1)
    last_checkpoint.INTERVAL, last_checkpoint.PATIENCE = interval, 0.0
    words = " ".join((TRAINER, QUIET, DATA, MODEL)).split()
    where = ["--config", str(CONFIG), "--trainer.default_root_dir", str(folder), "--trainer.max_steps", str(steps)]
    ppar(["fit", *where, *words, "--ckpt_path", "last"])


def start(folder: Path, given: argparse.Namespace) -> BaseProcess:
    """Fork a training, to save the time of the imports."""
    arguments = (folder, given.steps, given.interval)
    process = multiprocessing.get_context("fork").Process(target=train, args=arguments)
    process.start()
    return process


def logged(folder: Path) -> Rows:
    """Return step -> logged values, from the last session that reached the step."""
    rows: Rows = {}
    for path in sorted(folder.glob("curves/fit/*/metrics.csv")):
        with path.open() as file:
            rows |= {row["step"]: row for row in csv.DictReader(file)}
    return rows


def outcome(folder: Path) -> tuple[dict[str, Any], Rows]:
    """Return the final state of a run."""
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    kept = ("global_step", "state_dict", "optimizer_states", "lr_schedulers")
    return {name: saved[name] for name in kept}, logged(folder)


def same(a: Any, b: Any) -> bool:
    """Compare the contents of two checkpoints bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def difference(ours: tuple[dict[str, Any], Rows], whole: tuple[dict[str, Any], Rows]) -> str:
    """Return the name of the first difference."""
    parts = [name for name, value in whole[0].items() if not same(ours[0][name], value)]
    steps = [step for step, row in whole[1].items() if ours[1].get(step) != row]
    return ", ".join([*parts, *(f"logged at step {step}" for step in steps)]) or "nothing"


def kill_and_resume(folder: Path, after: float, given: argparse.Namespace) -> int:
    """Kill a run after some seconds, then let it finish; return the step that it continued from."""
    process = start(folder, given)
    process.join(after)
    process.kill()
    process.join()
    reached = 0
    for name in ("last.ckpt", "previous.ckpt"):
        if (path := folder / "checkpoints" / name).exists():
            reached = max(reached, torch.load(path, weights_only=True)["global_step"])
    process = start(folder, given)
    process.join()
    return reached


def main() -> None:
    """Kill, resume, compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="optimiser steps of a run")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between checkpoints; 0: after every step")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    table = Table("kill", "after s", "went on from step", "differs", title=f"SIGKILL in a run of {given.steps} steps")
    rng, equal = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as name:
        start(Path(name) / "warm", given).join()  # fills the caches
        began = time.monotonic()
        start(Path(name) / "whole", given).join()
        seconds = time.monotonic() - began
        whole = outcome(Path(name) / "whole")
        for number in range(given.kills):
            folder, after = Path(name) / str(number), rng.uniform(0, seconds)
            step = kill_and_resume(folder, after, given)
            found = difference(outcome(folder), whole)
            equal += found == "nothing"
            table.add_row(str(number), f"{after:.2f}", str(step), found)
    Console().print(table)
    print(f"{equal} of {given.kills} equal")


if __name__ == "__main__":
    main()
