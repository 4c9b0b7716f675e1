"""The guard against NaN and inf, on a tiny module, on two ranks, and through the command line."""

import copy
import os
import re
from functools import partial

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from ranks import run_ranks
from test_cli import fit
from test_module import build
from torch import nn
from torch.optim import SGD, AdamW, RMSprop
from torch.utils.data import DataLoader

from ppar_lightning.callbacks import finite_guard
from ppar_lightning.callbacks.finite_guard import FiniteGuard
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.optimizer import fuse, refit
from ppar_lightning.segmenter.segmenter import Segmenter

OPTIMIZERS = {"sgd": partial(SGD, momentum=0.9), "adamw": AdamW, "rmsprop": RMSprop}
"""The last one has no fused kernel."""


class Tiny(LightningModule):
    """A linear layer behind a batch norm, whose second loss term or gradient goes wrong at some batches."""

    objective, good = None, True
    on_before_optimizer_step = PPARModule.on_before_optimizer_step

    def __init__(
        self,
        loss: tuple[int, ...] = (),
        gradient: tuple[int, ...] = (),
        factor: float = 1.0,
        silent=(),
        optimizer=AdamW,
    ):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(2), nn.Linear(2, 1)
        self.loss, self.gradient, self.factor, self.silent, self.optimizer = loss, gradient, factor, silent, optimizer
        self.shared, self.states, self.scales, self.steps = {}, [], [], []

    def training_step(self, batch, batch_idx):
        x = batch["image"].float()
        if batch_idx in self.loss:
            x = x / 0
        out = self.linear(self.norm(x))
        terms = {"fit": self.factor * out.float().mean(), "pull": self.linear.weight.square().mean()}
        if batch_idx in self.gradient:
            terms["pull"] = terms["pull"] + (0 * self.linear.bias).abs().sqrt().sum()  # 0, with inf times 0 behind it
        self.loss_terms = {name: term.detach() for name, term in terms.items()}
        if batch_idx in self.silent:
            self.loss_terms["fit"], self.culprit = torch.tensor(torch.inf), batch["name"]
        return sum(terms.values())

    def on_train_batch_end(self, *_):
        self.states.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
        self.scales.append(getattr(self.trainer.precision_plugin, "scaler", None))
        self.scales[-1] = self.scales[-1] and self.scales[-1].get_scale()
        self.steps.append(copy.deepcopy(self.optimizers().state_dict()["state"]))

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters(), lr=0.1)
        fuse(optimizer)
        return optimizer


def batches(number):
    images = torch.arange(number * 8).view(number, 4, 2).remainder(7).to(torch.uint8)
    names = [[f"{i}/{j}" for j in range(4)] for i in range(number)]
    return [
        {"image": image, "label": image[:, 0].long(), "name": name, "domain": ["game"] * 4, "error": []}
        for image, name in zip(images, names, strict=True)
    ]


def train(folder, module, number=6, **options):
    torch.manual_seed(0)
    nn.init.ones_(module.linear.weight)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "default_root_dir": str(folder), "max_epochs": 1}
    trainer = Trainer(**quiet, callbacks=[FiniteGuard()], **options)
    trainer.fit(module, DataLoader(batches(number), batch_size=None))
    return trainer


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_loss_that_is_nan_stops_the_run_and_leaves_the_weights(tmp_path):
    module = Tiny(loss=(3,))
    with pytest.raises(ValueError, match=r"step 3: loss term 'fit' is nan with the batch of game: 3/0, .*3/3;") as stop:
        train(tmp_path, module)
    assert "\n" not in str(stop.value)
    assert "lower the learning rate" in str(stop.value)
    assert all(torch.equal(p, module.states[2][name]) for name, p in module.named_parameters())


@pytest.mark.parametrize("fault", ["loss", "gradient"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_step_and_all_later_ones_leave_weights_and_optimizer_as_they_are(tmp_path, optimizer, fault):
    """A fused kernel decides on the device, and the run ends when the host looks: here at the end of training."""
    for accumulate, options in ((1, {}), (2, {"gradient_clip_val": 0.5})):
        module = Tiny(**{fault: (4,)}, optimizer=optimizer)
        where = "loss term 'fit' is nan" if fault == "loss" else "gradient of 'linear.bias' is not finite"
        with pytest.raises(ValueError, match=f"step {4 // accumulate}: {where} with the batch of game: 4/0, "):
            train(tmp_path, module, accumulate_grad_batches=accumulate, number=8, **options)
        done = 8 if optimizer is not RMSprop else 4 + accumulate - 1
        assert len(module.steps) == done
        before = module.states[3]
        assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
        state = module.optimizers().state_dict()["state"]
        assert list(state) == list(module.steps[3])
        assert all(same(state[index], module.steps[3][index]) for index in state)
        assert not same(module.steps[3][2], module.steps[1][2])


@pytest.mark.parametrize("fused", [None, False])
def test_a_state_is_loaded_by_the_kernels_of_the_optimizer(fused):
    """A counter of steps lies on the CPU without the fused kernel, else beside its parameter."""
    parameters = [torch.zeros(2, requires_grad=True)]
    built, former = AdamW(parameters, fused=fused), AdamW(parameters, fused=fused is not None)
    fuse(built)
    assert built.param_groups[0]["fused"] is (fused is None)
    parameters[0].grad = torch.ones(2)
    former.step()
    state = refit(built, former.state_dict())
    assert state["param_groups"][0] == former.state_dict()["param_groups"][0] | {"fused": fused is None}
    built.load_state_dict(state)
    built.step()
    assert built.state[parameters[0]]["step"] == 2


def test_sgd_takes_a_first_gradient_that_comes_late():
    """Without its buffer, the fused kernel would refuse the parameter."""
    ends = []
    for kernel in (None, False):
        parameters = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
        optimizer = SGD(parameters, 0.1, momentum=0.9, fused=kernel)
        fuse(optimizer)
        for step in range(3):
            for p in parameters[: step + 1]:
                p.grad = torch.full_like(p, step + 1.0)
            optimizer.step()
        ends.append(parameters)
    assert [group["fused"] for group in optimizer.param_groups] == [False]
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("every", [4, 0])
def test_the_host_looks_on_logging_steps_and_before_its_memory_is_full(tmp_path, every, monkeypatch):
    monkeypatch.setattr(finite_guard, "STEPS", 6)
    module = Tiny(loss=(1,))
    with pytest.raises(ValueError, match="step 1: loss term 'fit' is nan with the batch of game: 1/0"):
        train(tmp_path, module, number=20, log_every_n_steps=every)
    assert len(module.states) == (every or 6) - 1  # the guard comes before the module


def test_no_checkpoint_and_no_validation_sees_a_nan(tmp_path):
    """Not even those of weights alone, of which Lightning tells no callback."""
    image, label = torch.rand(6, 2, 3, 32, 32), torch.randint(0, 19, (6, 2, 32, 32))
    image[3] = torch.nan
    loader = [
        {"image": x, "label": y, "name": ["a", "b"], "domain": ["game"] * 2} for x, y in zip(image, label, strict=True)
    ]
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "enable_model_summary": False}
    each = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2, save_weights_only=True)
    for options in ({"callbacks": [FiniteGuard(), each]}, {"callbacks": [FiniteGuard()], "val_check_interval": 2}):
        seen = []
        module = PPARModule(Segmenter("resnet_small", "fpn", pretrained=False), PPAROptions(enabled=False))
        module.validation_step = lambda batch, index, seen=seen: seen.append(batch["image"].isfinite().all())
        checked = [loader[0]] if "val_check_interval" in options else None
        options = {"enable_checkpointing": checked is None, "num_sanity_val_steps": 0, **options}
        trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, **quiet, **options)
        with pytest.raises(ValueError, match="step 3: loss term 'ce' is nan"):
            trainer.fit(module, DataLoader(loader, batch_size=None), checked and DataLoader(checked, batch_size=None))
        assert len(seen) == (checked is not None)
    (written,) = tmp_path.glob("*.ckpt")
    state = torch.load(written, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_banks_and_margin_statistics_stay_too(tmp_path):
    """All of the state does, but for the statistics of batch norms, which the forward pass moves."""
    module, states = build(), []
    image, label = torch.rand(4, 2, 3, 32, 32), torch.randint(0, 19, (4, 2, 1, 2))
    image[3], label = torch.nan, label.expand(-1, -1, 2, -1).repeat_interleave(16, 2).repeat_interleave(16, 3)
    loader = [
        {"image": pair[0], "label": pair[1], "name": ["a", "b"], "domain": ["game"] * 2}
        for pair in zip(image, label, strict=True)
    ]
    kept = LambdaCallback(on_train_batch_end=lambda *_: states.append(copy.deepcopy(module.state_dict())))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet["enable_model_summary"] = False
    trainer = Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[FiniteGuard(), kept], **quiet)
    with pytest.raises(ValueError, match="step 3: loss term 'ce' is nan"):
        trainer.fit(module, DataLoader(loader, batch_size=None))
    state = {name: value for name, value in module.state_dict().items() if "running_" not in name}
    state = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    moved = {name for name in state if not torch.equal(states[0][name], states[2][name])}
    moving = {"objective.prototypes.bank", "objective.visual_bank.bank", "objective.statistics.sums"}
    assert moving <= moved
    assert same(state, states[2])


def test_a_gradient_that_is_nan_is_named_by_its_parameter(tmp_path):
    with pytest.raises(
        ValueError, match=r"step 2: gradient of 'linear.bias' is not finite with the batch of game: 2/0"
    ):
        train(tmp_path, Tiny(gradient=(2,)))


def test_gradients_whose_squares_overflow_are_finite(tmp_path):
    assert train(tmp_path, Tiny(factor=1e30)).global_step == 6


def test_the_batch_at_fault_is_named_among_those_that_were_accumulated(tmp_path):
    with pytest.raises(ValueError, match=r"step 1: loss term 'fit' is nan with the batch of game: 3/0, .*3/3;"):
        train(tmp_path, Tiny(loss=(3,)), accumulate_grad_batches=2)


def test_the_scaler_of_fp16_may_overflow_but_not_without_end(tmp_path):
    module = Tiny(factor=16.0)  # times the scale of 2^16 it is beyond fp16
    train(tmp_path / "a", module, plugins=MixedPrecision("16-mixed", "cpu"))
    assert module.scales[0] < 2**16
    assert module.states[-1]["linear.weight"].isfinite().all()
    assert not same(module.states[-1], module.states[0])
    module = Tiny(gradient=tuple(range(30)))
    with pytest.raises(ValueError, match="step 16: gradient of 'linear.bias' is not finite"):
        train(tmp_path / "b", module, plugins=MixedPrecision("16-mixed", "cpu"), number=30)
    assert module.scales[-1] == 1
    with pytest.raises(ValueError, match="step 1: loss term 'fit' is nan"):
        train(tmp_path / "c", Tiny(loss=(1,)), plugins=MixedPrecision("16-mixed", "cpu"))


def two_ranks(folder):
    """Five steps of two batches, in the third of which the second rank has an inf that no gradient knows of."""
    number = os.environ["RANK"]
    for name, optimizer in OPTIMIZERS.items():
        module = Tiny(silent=(5,) if number == "1" else (), optimizer=optimizer)
        with pytest.raises(ValueError, match="step 2: ") as stop:
            train(folder, module, 20, accumulate_grad_batches=2, gradient_clip_val=0.5, devices=2, strategy="ddp")
        state = {str(index): values for index, values in module.optimizers().state_dict()["state"].items()}
        stays = all(same(state[index], module.steps[3][int(index)]) for index in state)
        stays &= all(torch.equal(p, module.states[3][name]) for name, p in module.named_parameters())
        record = str(stop.value), stays, dict(module.named_parameters()), getattr(module, "culprit", [])
        torch.save(record, f"{folder}/{name}.{number}.pt")


def test_ranks_decide_alike_and_name_the_batch_of_the_one_at_fault(tmp_path):
    run_ranks(2, two_ranks, str(tmp_path))
    for name in OPTIMIZERS:
        first, second = (torch.load(tmp_path / f"{name}.{number}.pt", weights_only=True) for number in (0, 1))
        assert first[0] == second[0]
        images = ", ".join(f"game: {image}" for image in second[3])
        assert f"step 2: loss term 'fit' is inf with the batch of {images}; lower" in first[0]
        assert first[1]
        assert second[1]
        assert same(first[2], second[2])


EXPLODE = ("--model.optimizer.lr", "1e30", "--model.warmup_steps", "0", "--trainer.limit_val_batches", "0")
VALIDATED = (*EXPLODE[:-1], "1", "--trainer.val_check_interval", "1", "--prediction_grid.images", "0")


@pytest.mark.remedy("callbacks/finite_guard.py::FiniteGuard._look")
@pytest.mark.parametrize("words", [EXPLODE, VALIDATED], ids=["training", "validation"])
def test_the_command_ends_in_one_line(tmp_path, capsys, words):
    """Also where a validation is the first to meet what the step before has left."""
    with pytest.raises(SystemExit, match="1"):
        fit(tmp_path / "run", *words)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "ppar: error" in line]
    assert re.search(r"step 1: loss term 'ce' is (nan|inf).* with the batch of game: ", line)
    assert "lower the learning rate or raise --trainer.precision" in line
    if words is EXPLODE:
        fit(tmp_path / "lower", *words, "--model.optimizer.lr", "1e-3", "--trainer.max_steps", "2")
