"""The average of the trained weights: its values, what is validated and stored, and that a run goes on exactly."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from ranks import run_ranks
from test_step_calls import StepCalls
from torch.utils.data import DataLoader

from ppar_lightning.averaging import EMA, TrainedAverage
from ppar_lightning.callbacks.quiet_ranks import QuietRanks
from ppar_lightning.distributed import gather
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter.segmenter import Segmenter

HALF = EMA(decay=0.5, start=1)
NAME = "segmenter.classifier.weight"
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def samples(count: int) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, 2, 3, 32, 32, generator=generator)
    label = torch.randint(0, 19, (count, 2, 32, 32), generator=generator)
    return DataLoader([{"image": a, "label": b} for a, b in zip(image, label, strict=True)], batch_size=None)


def build(ema: EMA | None = HALF) -> PPARModule:
    torch.manual_seed(0)
    segmenter = Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=16, freeze_stages=3)
    return PPARModule(segmenter, PPAROptions(enabled=False), optimizer=partial(torch.optim.Adam, lr=0.01), ema=ema)


class Watch(Callback):
    """What is trained after each optimiser step, and what each validation uses."""

    def __init__(self) -> None:
        self.trained: dict[int, torch.Tensor] = {}
        self.validated: dict[int, torch.Tensor] = {}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.trained[trainer.global_step] = pl_module.state_dict()[NAME].clone()

    def on_validation_batch_end(self, trainer, pl_module, *_) -> None:
        self.validated[trainer.global_step] = pl_module.state_dict()[NAME].clone()


def train(folder: Path, module: PPARModule, *callbacks: Callback, path: Path | None = None, **options: Any) -> Trainer:
    """Train four optimiser steps of two batches each, with a validation after each and a checkpoint after every other.

    The loader begins anew where a run goes on, with the batch that an uninterrupted run would see there.
    """
    every = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=2)
    options = {"max_steps": 4, "accumulate_grad_batches": 2, "val_check_interval": 2, **QUIET, **options}
    trainer = Trainer(callbacks=[*callbacks, every], num_sanity_val_steps=0, default_root_dir=folder, **options)
    batches = DataLoader([*samples(4)] * 2, batch_size=None)
    trainer.fit(module, batches, samples(1), ckpt_path=path, weights_only=True)
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, PPARModule, Watch]:
    """A run that is not stopped."""
    folder, module, watch = tmp_path_factory.mktemp("whole"), build(), Watch()
    train(folder, module, watch)
    return folder, module, watch


def state_of(folder: Path, step: int) -> dict[str, Any]:
    return torch.load(folder / f"step={step}.ckpt", weights_only=True)


def test_the_average_begins_after_the_start_and_counts_optimiser_steps(whole):
    folder, module, watch = whole
    trained = watch.trained
    expected = {1: trained[1], 2: trained[2]}  # start 1: the weights themselves, then where the average begins
    expected[3] = (trained[2] + trained[3]) / 2
    expected[4] = (expected[3] + trained[4]) / 2
    for step, average in expected.items():
        torch.testing.assert_close(watch.validated[step], average)
    for step in (2, 4):
        assert torch.equal(state_of(folder, step)["state_dict"][NAME], watch.validated[step])
        assert torch.equal(state_of(folder, step)["current_model_state"][NAME], trained[step])
    assert not torch.equal(expected[4], trained[4])
    assert torch.equal(module.state_dict()[NAME], state_of(folder, 4)["state_dict"][NAME])  # after the training


def test_statistics_counters_and_frozen_weights_are_copied_not_averaged(whole):
    folder, module, _ = whole
    plain = build(None)
    train(folder / "plain", plain, limit_val_batches=0)
    stored, without = state_of(folder, 4), plain.state_dict()
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert {*stored["current_model_state"]} == trained  # nothing is stored twice
    assert trained < {*stored["state_dict"]} == {*without}
    for name, tensor in without.items():
        current = stored["current_model_state"] if name in trained else stored["state_dict"]
        assert torch.equal(current[name], tensor), name  # the average changes nothing in the training
    assert any("running_mean" in name for name in without)


def test_a_resumed_run_equals_one_that_was_not_stopped(whole, tmp_path):
    folder, module, _ = whole
    again, watch = build(), Watch()
    train(tmp_path, again, watch, path=folder / "step=2.ckpt")
    first, second = state_of(folder, 4), state_of(tmp_path, 4)
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    states = [each["optimizer_states"][0]["state"] for each in (first, second)]
    assert all(torch.equal(states[0][k][name], states[1][k][name]) for k in states[0] for name in states[0][k])
    assert torch.equal(again.state_dict()[NAME], module.state_dict()[NAME])


@pytest.mark.slow
def test_averages_are_those_of_lightnings_callback(whole, tmp_path):
    folder, _, _ = whole
    module = build(None)
    train(tmp_path, module, EMAWeightAveraging(decay=0.5, update_starting_at_step=1))
    found = dict(module.named_parameters())
    for name, tensor in state_of(folder, 4)["state_dict"].items():
        if name in found:
            torch.testing.assert_close(found[name].data, tensor)
    continued = build()
    train(tmp_path / "on", continued, path=tmp_path / "step=2.ckpt")  # its checkpoints are continued, too
    torch.testing.assert_close(continued.state_dict()[NAME], state_of(folder, 4)["state_dict"][NAME])


def test_an_update_reads_nothing_from_the_device_and_shares_what_is_not_trained(tmp_path):
    module, found = build(), StepCalls(str(tmp_path / "calls.json"))
    trainer: Any = SimpleNamespace(global_step=3, strategy=None, callbacks=[])
    average = TrainedAverage(HALF)
    module._trainer = trainer
    average.setup(trainer, module, "fit")
    average.on_fit_start(trainer, module)
    found.start()
    average.on_train_batch_end(trainer, module)
    found.stop()
    assert found.calls[0]["operations"] > 0 == found.calls[0]["reads"]
    pairs = zip(average._average_model.module.named_parameters(), module.parameters(), strict=True)
    assert all((ours.data_ptr() == theirs.data_ptr()) != theirs.requires_grad for (_, ours), theirs in pairs)
    buffers = zip(average._average_model.module.buffers(), module.buffers(), strict=True)
    assert all(ours.data_ptr() == theirs.data_ptr() for ours, theirs in buffers)


class Alike(Callback):
    """All ranks validate the same network, whose statistics differed after the last step."""

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.trained = gather({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})

    def on_validation_batch_end(self, trainer, pl_module, *_) -> None:
        if trainer.sanity_checking:
            return
        for states, same in ((self.trained, False), (gather(pl_module.state_dict()), True)):
            first, second = states
            statistics = [name for name in first if "running_mean" in name and "stages.3" in name]
            assert statistics
            assert all(torch.equal(first[name], second[name]) == same for name in statistics)
            assert torch.equal(first[NAME], second[NAME])
        assert not torch.equal(self.trained[0][NAME], states[0][NAME])


def train_as_rank(folder: Path) -> None:
    options = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False, "val_check_interval": 4}
    module, own = build(), int(os.environ["RANK"])
    trainer = Trainer(max_steps=4, callbacks=[QuietRanks(), Alike()], default_root_dir=folder, **QUIET, **options)
    batches = [*samples(8)][own::2]
    trainer.fit(module, DataLoader(batches, batch_size=None), samples(1))


@pytest.mark.slow
def test_all_ranks_validate_the_same_statistics(tmp_path):
    run_ranks(2, train_as_rank, tmp_path)


@pytest.mark.remedy("averaging.py::EMA.__post_init__")
@pytest.mark.remedy("averaging.py::TrainedAverage.setup")
@pytest.mark.remedy("averaging.py::TrainedAverage.setup")
def test_an_average_that_cannot_be_is_refused():
    for options in ({"decay": 1.0}, {"decay": -0.1}, {"start": -1}):
        with pytest.raises(ValueError, match="model.ema has .*; give a decay of at least 0 and below 1, and a start"):
            EMA(**options)
    assert EMA(decay=0, start=0) == EMA(0.0)
    for strategy, callbacks, remedy in (
        (ModelParallelStrategy(), [], "no shards: give --trainer.strategy ddp, or leave model.ema out"),
        (DDPStrategy(), [EMAWeightAveraging()], "leave the callback or model.ema out"),
    ):
        trainer: Any = SimpleNamespace(strategy=strategy, callbacks=callbacks)
        with pytest.raises(ValueError, match=remedy):
            TrainedAverage(EMA()).setup(trainer, build(), "fit")
        TrainedAverage(EMA()).setup(trainer, build(), "test")  # which averages nothing
    module = build()
    module._trainer = right = SimpleNamespace(strategy=DDPStrategy(), callbacks=module.configure_callbacks())
    right.callbacks[0].setup(right, module, "fit")
    assert build(None).configure_callbacks() == []
