"""What a training step asks of the host, counted: reads of the device and collectives."""

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import torch
from lightning import Callback
from ranks import run_ranks
from stand_ins import small_config
from test_cli import CONFIG, SMALL, UNSEEN

from ppar_lightning.callbacks import quiet_ranks
from ppar_lightning.callbacks.quiet_ranks import QuietRanks
from ppar_lightning.cli import main
from ppar_lightning.method.options import PPAROptions

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from step_calls import StepCalls, averages, words

SOURCE_ONLY = ["--model.ppar.enabled", "false"]


def root(folder: Path) -> list[str]:
    return ["--trainer.default_root_dir", str(folder / "run")]


def counted(folder: Path, steps: int, *given: str, ranks: int = 1) -> list[Counter[str]]:
    """Train a small config, and return the calls of each batch after the first two steps."""
    command = ["fit", "--config", small_config(folder), *root(folder), *words(steps, folder / "calls.json"), *given]
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


class Buffers(Callback):
    """Keeps what each rank validates with."""

    def on_validation_batch_start(self, trainer, pl_module, *_) -> None:
        buffers = dict(pl_module.segmenter.named_buffers())
        torch.save(buffers, f"{trainer.default_root_dir}/{trainer.global_rank}.pt")


def test_two_ranks_exchange_little_and_score_one_network(tmp_path):
    """DDP's own sums of the gradients are not counted."""
    words = ["--trainer.limit_val_batches", "1", "--trainer.callbacks+=test_step_calls.Buffers"]
    for calls in counted(tmp_path, 2, *words, "--trainer.devices", "2", "--trainer.strategy", "ddp", ranks=2):
        assert set(calls) <= {"operations", "allreduce"}
        assert calls["allreduce"] == 2  # what normalises the losses; and all else
    first, second = (torch.load(tmp_path / "run" / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert any("running_mean" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_statistics_of_rank_0_are_those_of_all_from_a_checkpoint_on(monkeypatch):
    """As they are in a run that continues from it."""
    sent = []
    monkeypatch.setattr(quiet_ranks, "broadcast", sent.extend)
    QuietRanks().on_save_checkpoint(None, SimpleNamespace(segmenter=(norm := torch.nn.BatchNorm2d(2))), {})
    assert [id(each) for each in sent] == [id(each) for each in norm.buffers()]


def test_ppar_costs_few_operations_more_than_its_segmenter(tmp_path):
    """On the demo's networks, with the visual context looked at in every fourth step, as by default."""
    small = [*SMALL[-2 * len(UNSEEN) :], "--data.sources.game.limit", "4", "--data.batch_size", "2"]
    small += ["--data.workers", "0", "--data.crop", "[64, 128]"]
    numbers = []
    for variant in (SOURCE_ONLY, ["--model.ppar.context_every", str(PPAROptions().context_every)]):
        record = tmp_path / f"{len(numbers)}.json"
        main(["fit", "--config", CONFIG, *small, *variant, *words(4, record), *root(tmp_path / record.stem)])
        numbers.append(averages(record))
    assert "reads" not in numbers[1]
    assert 0 < numbers[1]["operations"] - numbers[0]["operations"] <= 350
