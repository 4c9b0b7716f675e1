"""What a training step asks of the host, counted: reads of the device and collectives."""

import json
import sys
from collections import Counter
from pathlib import Path

import torch
from ranks import run_ranks
from stand_ins import small_config

from ppar_lightning.cli import main

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from step_calls import StepCalls, words

SOURCE_ONLY = ["--model.ppar.enabled", "false"]


def counted(folder: Path, steps: int, *given: str, ranks: int = 1) -> list[Counter[str]]:
    """Train a small config, and return the calls of each batch after the first two steps."""
    root = ["--trainer.default_root_dir", str(folder / "run")]
    command = ["fit", "--config", small_config(folder), *root, *words(steps, folder / "calls.json"), *given]
    run_ranks(ranks, main, command) if ranks > 1 else main(command)
    return [Counter(calls) for calls in json.loads((folder / "calls.json").read_text())]


def test_reads_are_found(tmp_path):
    """Of whatever kind, or the other tests would find none."""
    found = StepCalls(str(tmp_path / "calls.json"))
    values = torch.arange(4.0)
    asks = [
        lambda: values[0].item(),
        lambda: bool(values[0] > 1),
        lambda: values.tolist(),
        lambda: values.cpu(),
        lambda: values.numpy(),
        lambda: values[values > 1],
        lambda: values.nonzero(),
        lambda: values.new_tensor([1.0]),
        lambda: torch.tensor(1.0, device=values.device),
    ]
    silent = [lambda: values.sum(), lambda: values[torch.tensor([1])], lambda: values.new_full((2,), 3.0)]
    for ask in asks + silent:
        found.start()
        ask()
        found.stop()
    assert [calls["reads"] for calls in found.calls] == [1] * len(asks) + [0] * len(silent)


def test_a_step_that_is_not_logged_never_waits_for_the_device(tmp_path):
    """But for the one that fixes the mask of the whitening, which is clustered on the host."""
    isw = ["--model.isw.enabled", "true", "--model.isw.statistics", "[0.0, 0.6]"]
    whole = ["--trainer.gradient_clip_val", "1", "--trainer.accumulate_grad_batches", "2", *isw]
    calls = [each["reads"] for each in counted(tmp_path, 4, *whole, *SOURCE_ONLY)]
    assert [index for index, reads in enumerate(calls) if reads] == [4]
