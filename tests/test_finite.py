"""The guard against NaN and inf, on a tiny module, on two ranks, and through the command line."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.plugins import MixedPrecision
from test_cli import fit
from test_module import build
from torch import nn
from torch.utils.data import DataLoader

from ppar_lightning.callbacks.finite_guard import FiniteGuard


class Tiny(LightningModule):
    """A linear layer behind a batch norm, whose second loss term or gradient goes wrong at some batches."""

    def __init__(self, loss: tuple[int, ...] = (), gradient: tuple[int, ...] = (), factor: float = 1.0):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(2), nn.Linear(2, 1)
        self.loss, self.gradient, self.factor = loss, gradient, factor
        self.states, self.scales = [], []

    def training_step(self, batch, batch_idx):
        x = batch["image"].float()
        if batch_idx in self.loss:
            x = x / 0
        out = self.linear(self.norm(x))
        terms = {"fit": self.factor * out.float().mean(), "pull": self.linear.weight.square().mean()}
        if batch_idx in self.gradient:
            terms["pull"] = terms["pull"] + (0 * self.linear.bias).abs().sqrt().sum()  # 0, with inf times 0 behind it
        self.loss_terms = {name: term.detach() for name, term in terms.items()}
        return sum(terms.values())

    def on_train_batch_end(self, *_):
        self.states.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
        self.scales.append(getattr(self.trainer.precision_plugin, "scaler", None))
        self.scales[-1] = self.scales[-1] and self.scales[-1].get_scale()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 0.1)


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


def rank(number, folder):
    """Two steps; the first is sound, in the second the second rank alone has an inf, of which no gradient knows."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=number, world_size=2)
    module, guard = nn.Linear(1, 1), FiniteGuard()  # without gradients, as a fork must not run backward
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    trainer = SimpleNamespace(
        global_rank=number, default_root_dir=folder, precision_plugin=None, is_global_zero=number == 0
    )
    said = ""
    for trainer.global_step in range(2):
        module.loss_terms = {"ce": torch.tensor(torch.inf if trainer.global_step == number == 1 else 0.0)}
        batch = {"image": torch.zeros(1), "label": torch.zeros(1), "name": [f"of {number}"], "domain": ["game"]}
        guard.on_train_batch_start(trainer, module, batch, 0)
        guard.on_before_backward(trainer, module, torch.zeros(()))
        try:
            guard.on_before_optimizer_step(trainer, module, optimizer)
        except ValueError as error:
            said = str(error)
    torch.save((trainer.global_step, said), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_ranks_decide_alike_and_name_the_batch_of_the_one_at_fault(tmp_path):
    mp.start_processes(rank, (str(tmp_path),), nprocs=2, start_method="fork")
    ranks = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in (0, 1)]
    assert ranks[0] == ranks[1]
    assert "step 1: loss term 'ce' is inf with the batch of game: of 1;" in ranks[0][1]


EXPLODE = ("--model.optimizer.lr", "1e30", "--model.warmup_steps", "0", "--trainer.limit_val_batches", "0")
VALIDATED = (*EXPLODE[:-1], "1", "--trainer.val_check_interval", "1", "--prediction_grid.images", "0")


@pytest.mark.remedy("callbacks/finite_guard.py::FiniteGuard.on_before_optimizer_step")
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
