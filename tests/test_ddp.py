"""The command line on two ranks (gloo), of one node and of two, replicated and sharded, against one rank."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from ranks import run_ranks
from test_cli import CONFIG, SMALL, weights

from ppar_lightning.callbacks import last_checkpoint
from ppar_lightning.cli import main
from ppar_lightning.module import PPARModule

# With OTP as the only anchor nothing that the segmenter learns from depends on the context decoder's dropout, which
# differs between ranks; and SGD, as Adam blows rounding up where a gradient is near zero.
SGD = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.05", "--model.optimizer.momentum", "0.9"]
# The backbone has no batch norm, whose statistics are each rank's own.
VIT = ["--model.segmenter.backbone", "tinyclip", "--model.segmenter.head", "pyramid"]
QUIET = ["--trainer.accelerator", "cpu", "--trainer.limit_val_batches", "0", "--trainer.max_steps", "3"]
WORDS = [*SMALL, *SGD, *VIT, *QUIET, "--model.ppar.order", "otp"]
HALF = ["--data.batch_size", "2"]
FSDP = [
    *("--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.save_distributed_checkpoint", "false"),
    *("--trainer.strategy.data_parallel_size", "2", "--trainer.strategy.tensor_parallel_size", "1"),
]
NODES = {"one": 1, "ddp": 1, "nodes": 2, "fsdp": 1, "compiled": 1}
OPTIONS = {
    "one": ["--data.batch_size", "4"],
    "ddp": [*HALF, "--trainer.strategy", "ddp", "--trainer.devices", "2"],
    "nodes": [*HALF, "--trainer.strategy", "ddp", "--trainer.devices", "1", "--trainer.num_nodes", "2"],
    "fsdp": [*HALF, *FSDP, "--trainer.devices", "2"],
    "compiled": ["--data.batch_size", "4", "--model.compile", "aot_eager"],
}
RANKS = {name: 2 if words[:2] == HALF else 1 for name, words in OPTIONS.items()}
pytestmark = pytest.mark.slow
ALONE = ["--trainer.strategy", "auto", "--trainer.devices", "1", "--trainer.num_nodes", "1"]


def ppar(ranks: int, nodes: int, *words: str) -> None:
    """Run a command line as torchrun runs it on several ranks."""
    if ranks == 1:
        main(list(words))
    else:
        run_ranks(ranks, main, list(words), nodes=nodes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    os.environ["PPAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    folders = {name: tmp_path_factory.mktemp(name) for name in OPTIONS}
    for name, folder in folders.items():
        root = ("--trainer.default_root_dir", str(folder))
        ppar(RANKS[name], NODES[name], "fit", "--config", CONFIG, *WORDS, *root, *OPTIONS[name])
    return folders


def evaluate(folder: Path, ranks: int, *words: str) -> dict:
    ppar(ranks, 1, "test", "--config", str(folder / "config.yaml"), *words)
    return json.loads((folder / "test.json").read_text())["domains"]


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "one"])
def test_the_weights_are_those_of_one_rank(runs, name):
    one, other = weights(runs["one"]), weights(runs[name])
    assert set(other) == set(one)
    drawn = ("objective.prototypes.decoder", "objective.prototypes.gamma", "objective.prototypes.bank")
    for key in one:
        if name == "compiled" or not key.startswith(drawn):
            torch.testing.assert_close(other[key], one[key], atol=2e-5, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_checkpoint_is_scored_alike_by_one_rank_and_two(runs, name):
    one, two = evaluate(runs[name], 1, *ALONE), evaluate(runs[name], 2)
    for domain in one:
        assert two[domain]["images"] == one[domain]["images"]
        # batches of another size round differently, which turns a pixel now and then
        assert two[domain]["miou"] == pytest.approx(one[domain]["miou"], abs=1e-4)


def test_a_compiled_run_is_scored_as_the_plain_one(runs):
    plain, compiled = (evaluate(runs[name], 1) for name in ("one", "compiled"))
    for domain in plain:
        assert compiled[domain]["miou"] == pytest.approx(plain[domain]["miou"], abs=2e-3)


def test_two_ranks_train_in_bf16_with_banks_in_fp32(runs, tmp_path):
    for name in ("ddp", "fsdp"):
        root = ("--trainer.default_root_dir", str(tmp_path / name), "--trainer.precision", "bf16-mixed")
        ppar(2, 1, "fit", "--config", CONFIG, *WORDS, *root, *OPTIONS[name])
        single, half = weights(runs[name]), weights(tmp_path / name)
        assert all(tensor.dtype == single[key].dtype for key, tensor in half.items())
        banks = [key for key in half if key.endswith(("bank", "sums"))]
        assert len(banks) == 3
        for key in banks:
            assert not torch.equal(half[key], half[key].bfloat16().float())
            torch.testing.assert_close(half[key], single[key], atol=0.02, rtol=0.05, msg=key)


def signalled(*words: str) -> None:
    """Run a command line of which the second rank alone is told to stop in its first step, and see it stop."""
    step = PPARModule.training_step

    def training_step(self, *arguments):
        if self.global_rank == 1 and self.global_step == 0:  # a second signal would end it at once
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    PPARModule.training_step = training_step  # in this process, which is a rank's
    last_checkpoint.DELAY = 1
    with pytest.raises(SystemExit) as leaving:
        main(list(words))
    assert leaving.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on_exactly(runs, tmp_path, name):
    root = ("--trainer.default_root_dir", str(tmp_path))
    run_ranks(2, signalled, "fit", "--config", CONFIG, *WORDS, *root, *OPTIONS[name])
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    ppar(2, 1, "fit", "--config", str(tmp_path / "config.yaml"), "--ckpt_path", "last")
    whole, stopped = weights(runs[name]), weights(tmp_path)
    assert set(stopped) == set(whole)
    for key, tensor in whole.items():
        assert torch.equal(stopped[key], tensor), key
