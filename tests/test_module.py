"""The Lightning module alone: what it builds, the losses it starts with, its parameter groups and learning rates."""

import copy
import math
import re
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ppar_lightning.baselines.whitening import ISWOptions
from ppar_lightning.method import objective as method
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.method.step_plan import StepPlan
from ppar_lightning.module import PPARModule
from ppar_lightning.optimizer import build_optimizer
from ppar_lightning.rates import PlannedRates
from ppar_lightning.segmenter.segmenter import Segmenter


def build(text: Mapping[str, Any] = MappingProxyType({}), **options) -> PPARModule:
    torch.manual_seed(1)
    segmenter = Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=16)
    return PPARModule(
        segmenter, PPAROptions(visual_size=32, clip_dtype="float32", context_every=1, **text), seed=3, **options
    )


def test_start_and_losses_are_those_of_version_0_1_0():
    module = build()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 64, 96, generator=generator)
    label = torch.randint(0, 19, (2, 4, 6), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert module.objective.embed.weight.double().sum().item() == pytest.approx(2.0766266882419586, abs=1e-9)
    assert module.objective.prototypes.decoder.query.weight.double().sum().item() == pytest.approx(2.0820645270638636)
    torch.manual_seed(5)
    totals = []
    for u in (0.0, 0.5, 0.7):
        totals.append(module.objective(module.segmenter.outputs(image), image, label, u).total.item())
        module.objective.update()
    assert totals == pytest.approx([5.579156875610352, 6.9223456382751465, 6.922858238220215], rel=1e-5)


def test_the_module_draws_nothing_that_others_see():
    torch.manual_seed(1)
    Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=16)
    expected = torch.rand(3)
    build()
    assert torch.equal(torch.rand(3), expected)


def test_an_evaluation_of_the_plain_segmenter_loads_no_clip(monkeypatch):
    def refuse(*_):
        raise AssertionError("CLIP is loaded")

    trained = build()
    monkeypatch.setattr(method, "PPAR", refuse)
    monkeypatch.setattr("ppar_lightning.module.PPAR", refuse)
    plain = build(for_training=False, isw=ISWOptions(enabled=True))
    assert plain.objective is None
    assert plain.whitening is None
    checkpoint = {"state_dict": trained.state_dict()}
    plain.on_load_checkpoint(checkpoint)
    plain.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(plain.segmenter.classifier.weight, trained.segmenter.classifier.weight)


@pytest.mark.remedy("method/prototypes.py::Prototypes.refuse_other_text")
@pytest.mark.parametrize("options", [{"random_text": True}, {"prompts": "bare"}, {"prompts": ["a {} from afar"]}])
def test_a_training_is_not_gone_on_with_by_another_text(options):
    """Loading would replace it by the checkpoint's, while config.yaml names the other."""
    state = build().state_dict()
    state["objective.prototypes.otp"] += 1e-6  # as another machine rounds
    with pytest.raises(ValueError, match=r"other text prototypes .* set .* random_text as in its training") as error:
        build(options).load_state_dict(state)
    assert all(option in str(error.value) for option in options)
    build().load_state_dict(state)


def test_the_ensemble_needs_the_objective_in_evaluation_too():
    module = PPARModule(build().segmenter, PPAROptions(visual_size=32, ensemble=1.0), for_training=False)
    image = torch.rand(1, 3, 32, 32)
    module.eval()
    assert not torch.equal(module(image), module.segmenter(image))


def test_the_loss_can_be_monitored_whatever_the_logging_interval(tmp_path):
    """An epoch of two batches is shorter than the 50 steps between two rows of the log."""
    image, label = torch.rand(2, 3, 32, 32), torch.randint(0, 19, (2, 32, 32))
    loader = DataLoader([{"image": image, "label": label}] * 2, batch_size=None)
    module, stop = build(optimizer=partial(torch.optim.SGD, lr=0.0)), EarlyStopping("train/loss", patience=1)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=5, callbacks=[stop], default_root_dir=tmp_path, **quiet)
    trainer.fit(module, loader)
    assert trainer.callback_metrics["train/loss"] == pytest.approx(sum(module.loss_terms.values()).item())
    assert stop.best_score > 0
    assert trainer.current_epoch < 5


def test_what_callbacks_share_is_summed_once_a_step(tmp_path):
    found = []

    class Sharing(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            pl_module.shared |= {"asks": torch.ones(2), "due": torch.full((1,), 3.0)}

        def on_train_batch_end(self, trainer, pl_module, *_) -> None:
            found.append({name: value.tolist() for name, value in pl_module.summed.items() if name in ("asks", "due")})
            assert not pl_module.shared

    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    module = PPARModule(Segmenter("resnet_small", "fpn", pretrained=False), PPAROptions(enabled=False))
    trainer = Trainer(max_steps=2, callbacks=[Sharing()], default_root_dir=tmp_path, **quiet)
    trainer.fit(module, DataLoader(Plain("uint8"), batch_size=None))
    assert found == [{"asks": [1, 1], "due": [3]}] * 2


class Steps(NamedTuple):
    """The part of a trainer that the optimiser is configured from."""

    estimated_stepping_batches: int


def configured(steps: int, **options):
    """The optimiser and scheduler of a training of some steps."""
    module = build(optimizer=SGD, **options)
    module._trainer = Steps(steps)
    return module, module.configure_optimizers()


def test_backbone_and_head_are_groups_with_names_and_rates_of_their_own():
    module, found = configured(10, backbone_lr=0.1)
    head, backbone = found["optimizer"].param_groups
    assert (head["name"], backbone["name"]) == ("head", "backbone")
    assert (head["lr"], backbone["lr"]) == (pytest.approx(0.01), pytest.approx(0.001))
    inside = {id(p) for p in module.segmenter.backbone.parameters()}
    assert {id(p) for p in backbone["params"]} == inside
    rest = {id(p) for p in (*module.segmenter.head.parameters(), *module.objective.parameters())}
    assert rest <= {id(p) for p in head["params"]}
    assert len(head["params"]) + len(backbone["params"]) == len(list(module.parameters()))


def test_a_frozen_backbone_has_no_group():
    module = build()
    module.segmenter.backbone.requires_grad_(False)
    module._trainer = Steps(10)
    assert [group["name"] for group in module.configure_optimizers()["optimizer"].param_groups] == ["head"]


@pytest.fixture(scope="module")
def plain() -> PPARModule:
    """A hierarchy without PPAR, whose backbone no test changes."""
    return PPARModule(Segmenter("resnet_small", "fpn", pretrained=False), PPAROptions(enabled=False))


SGD = partial(torch.optim.SGD, lr=0.01)


def rates_of(module: PPARModule, *options: Any) -> dict[str, tuple[str, float]]:
    """Parameter -> the name of its group, and its rate as a multiple of that of the heads, in the order of groups."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = build_optimizer(SGD, module, module.segmenter.backbone, *options).param_groups
    return {names[id(p)]: (group["name"], round(group["lr"] / 0.01, 9)) for group in groups for p in group["params"]}


def test_rates_fall_from_the_head_down_to_the_stem(plain):
    found = rates_of(plain, 0.5, None, 0.8)
    assert set(found) == {name for name, _ in plain.named_parameters()}
    for name, rate in found.items():
        rest = name.partition("backbone.network.")[2]
        stage = re.match(r"encoder.stages.(\d)", rest)
        layer = int(stage[1]) + 1 if stage else 0
        assert rate == ((f"backbone.{layer}", round(0.5 * 0.8 ** (5 - layer), 9)) if rest else ("head", 1))
    assert [*dict.fromkeys(group for group, _ in found.values())] == ["head", *(f"backbone.{k}" for k in range(5))]


def test_blocks_of_a_plain_vit_have_rates_of_their_own():
    module = PPARModule(Segmenter("tinyclip", pretrained=False), PPAROptions(enabled=False))
    found, depth = rates_of(module, 1.0, None, 0.5), module.segmenter.backbone.depth
    for name, (group, rate) in found.items():
        block = re.search(r"layers\.(\d+)\.", name)
        layer = int(block[1]) + 1 if block else 0 if "embed" in name or "pre" in name else depth + 1
        assert (group, rate) == (
            (f"backbone.{layer}", round(0.5 ** (depth + 1 - layer), 9)) if "network" in name else ("head", 1)
        )
    assert {f"backbone.{k}" for k in range(depth + 2)} < {group for group, _ in found.values()}


@pytest.mark.remedy("optimizer.py::build_optimizer")
@pytest.mark.remedy("optimizer.py::build_optimizer")
def test_adapters_are_a_group_and_rates_without_a_meaning_are_refused(plain):
    for value in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"model.layer_decay is {value}: give a number above 0 and at most 1"):
            rates_of(plain, 1.0, None, value)
    with pytest.raises(ValueError, match="model.adapter_lr is 0.5, but there is no adapter: leave it out"):
        rates_of(plain, 1.0, 0.5, 1.0)
    rates_of(plain, 1.0, None, 1.0)
    adapted = copy.deepcopy(plain)
    adapted.segmenter.backbone.requires_grad_(False)
    adapted.segmenter.backbone.network.encoder.stages[1].lora_A = torch.nn.Linear(2, 2)
    for given, decay, expected in (
        (None, 1.0, ("adapter", 0.1)),
        (2.0, 1.0, ("adapter", 2)),
        (2.0, 0.5, ("adapter.2", 0.25)),
    ):
        found = rates_of(adapted, 0.1, given, decay)
        assert {each for name, each in found.items() if "lora_A" in name} == {expected}
        assert {each for name, each in found.items() if "lora_A" not in name} == {("head", 1)}


def planned(total: int, end: float | None, kind: str = "extend", make: Any = torch.optim.AdamW):
    """An optimiser with two groups, and the rates of a training of some steps."""
    one, two = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = make([{"params": [one]}, {"params": [two], "weight_decay": 0.1}], lr=0.01, weight_decay=0.05)
    return PlannedRates(optimizer, StepPlan(total), 0, 0.9, kind, end)


def decays(rates: PlannedRates, steps: int) -> list[list[float]]:
    """Step, and return the weight decays of the groups before each step."""
    values = []
    for _ in range(steps):
        values.append([group["weight_decay"] for group in rates.optimizer.param_groups])
        rates.optimizer.step()
        rates.step()
    return values


def test_weight_decay_follows_half_a_cosine_also_where_a_run_goes_on():
    expected = [0.01 + 0.04 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    found = decays(planned(8, 0.01), 9)
    assert [first for first, _ in found] == pytest.approx(expected)
    assert [found[0][1], found[8][1]] == pytest.approx([0.1, 0.01])
    stopped = planned(8, 0.01)
    decays(stopped, 3)

    def goes_on(total: int, end: float | None, kind: str = "extend") -> PlannedRates:
        rates = planned(total, end, kind)
        rates.optimizer.load_state_dict(stopped.optimizer.state_dict())
        rates.load_state_dict(stopped.state_dict())
        return rates

    assert decays(goes_on(8, 0.01), 6) == found[3:]
    with pytest.warns(UserWarning, match="continuation restart"):
        assert decays(goes_on(11, 0.01, "restart"), 1)[0] == pytest.approx([0.05, 0.1])  # as the rates
    assert decays(goes_on(8, None), 2) == [[0.05, 0.1]] * 2


@pytest.mark.remedy("rates.py::PlannedRates.__init__")
def test_a_weight_decay_that_an_optimiser_lacks_is_refused():
    for end, kind in ((0.01, "Rprop"), (-0.1, "AdamW")):
        make = getattr(torch.optim, kind)
        optimizer = make([torch.nn.Parameter(torch.ones(1))])
        with pytest.raises(ValueError, match=f"{end} with {kind}: give 0 or more, and an optimizer with the option"):
            PlannedRates(optimizer, StepPlan(4), 0, 0.9, "extend", end)
        PlannedRates(optimizer, StepPlan(4), 0, 0.9, "extend")
    planned(4, 0.0)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_learning_rates_warm_up_linearly_and_decay_polynomially(warmup):
    _, found = configured(10, warmup_steps=warmup, power=0.9, backbone_lr=0.5)
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    assert found["lr_scheduler"]["interval"] == "step"
    for step in range(12):
        warm = min(1, (step + 1) / warmup) if warmup else 1
        expected = 0.01 * warm * (1 - min(step, 10) / 10) ** 0.9
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([expected, 0.5 * expected], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_a_finished_training_goes_on_with_the_rates_of_its_new_length():
    """Torch's PolynomialLR multiplies the last rate, which is 0 here, and keeps the old length in its state."""
    _, finished = configured(6)
    for _ in range(6):
        finished["optimizer"].step()
        finished["lr_scheduler"]["scheduler"].step()
    _, longer = configured(12)
    longer["optimizer"].load_state_dict(finished["optimizer"].state_dict())
    scheduler = longer["lr_scheduler"]["scheduler"]
    scheduler.load_state_dict(finished["lr_scheduler"]["scheduler"].state_dict())
    longer["optimizer"].step()
    scheduler.step()
    assert scheduler.get_last_lr()[0] == pytest.approx(0.01 * (1 - 7 / 12) ** 0.9)


def resumed(former, steps: int, **options):
    """The optimiser and scheduler of a training that continues another one."""
    module, found = configured(steps, **options)
    found["optimizer"].load_state_dict(former["optimizer"].state_dict())
    found["lr_scheduler"]["scheduler"].load_state_dict(former["lr_scheduler"]["scheduler"].state_dict())
    return module, found


def advance(found, steps: int) -> list[float]:
    """Step, and return the rates of the head after each step."""
    rates = []
    for _ in range(steps):
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
        rates.append(found["optimizer"].param_groups[0]["lr"])
    return rates


def test_a_continued_training_says_how_its_schedules_change_and_offers_the_other_way():
    _, finished = configured(6)
    advance(finished, 6)
    change = "at step 6, planned for 6 steps, now 12: learning rate 0 -> 0.00536, u 1 -> 0.5 .*continuation extend"
    with pytest.warns(UserWarning, match=f"{change}: .*; restart: a new cycle"):
        module, longer = resumed(finished, 12)
    _, planned = configured(12)
    assert advance(longer, 6) == advance(planned, 12)[6:]
    assert module.rates.plan.progress(6) == 0.5
    with pytest.warns(UserWarning, match="learning rate 0 -> 0.01, u 1 -> 1 .*continuation restart"):
        module, again = resumed(finished, 12, continuation="restart")
    assert [*advance(again, 5), 0] == pytest.approx([0.01 * (1 - step / 6) ** 0.9 for step in range(1, 7)])
    assert module.rates.plan.progress(6) == 1


def test_a_restart_that_is_stopped_goes_on_exactly(recwarn):
    _, finished = configured(6)
    advance(finished, 6)
    _, whole = resumed(finished, 12, continuation="restart")
    _, stopped = resumed(finished, 12, continuation="restart")
    advance(stopped, 2)
    recwarn.clear()
    _, later = resumed(stopped, 12, continuation="restart")
    assert not recwarn.list
    assert advance(later, 4) == advance(whole, 6)[2:]


def test_options_of_the_optimiser_are_those_of_the_config_also_where_a_run_goes_on():
    _, first = configured(6)
    advance(first, 3)
    module = build(optimizer=partial(torch.optim.SGD, lr=0.02, weight_decay=0.1))
    module._trainer = Steps(6)
    found = module.configure_optimizers()
    found["optimizer"].load_state_dict(first["optimizer"].state_dict())
    with pytest.warns(UserWarning, match="learning rate 0.00536 -> 0.0107"):
        found["lr_scheduler"]["scheduler"].load_state_dict(first["lr_scheduler"]["scheduler"].state_dict())
    head = found["optimizer"].param_groups[0]
    assert (head["lr"], head["weight_decay"]) == (pytest.approx(0.02 * 0.5**0.9), 0.1)


class Counting(torch.optim.SGD):
    """An optimiser that counts in its options, as those without a schedule do."""

    def __init__(self, params, lr: float = 0.01, **options) -> None:
        super().__init__(params, lr=lr, **options)
        self.defaults["k"] = self.param_groups[0]["k"] = self.param_groups[1]["k"] = 0


def test_what_an_optimiser_counts_in_its_options_goes_on():
    module, former = build(optimizer=partial(Counting, weight_decay=0.1)), build(optimizer=Counting)
    for each in (module, former):
        each._trainer = Steps(6)
    module, former = (each.configure_optimizers() for each in (module, former))
    advance(former, 2)
    for group in former["optimizer"].param_groups:
        group["k"] = 2
    for name, part in (("optimizer", None), ("lr_scheduler", "scheduler")):
        ours, theirs = (each[name][part] if part else each[name] for each in (module, former))
        ours.load_state_dict(theirs.state_dict())
    assert [(group["k"], group["weight_decay"]) for group in module["optimizer"].param_groups] == [(2, 0.1)] * 2


@pytest.mark.parametrize("warmup", [0, 5])
def test_an_unfinished_run_without_a_plan_is_restarted_where_it_was(warmup):
    """As 0.1.0 wrote it: the rate tells that 6 steps were planned, 3 of which are done."""
    _, former = configured(6, warmup_steps=warmup)
    advance(former, 3)
    state = former["lr_scheduler"]["scheduler"].state_dict()
    del state["plan"]
    for steps, plan in ((9, (9, 3, 0.5)), (6, (6, 0, 0.0))):
        module, found = configured(steps, warmup_steps=warmup, continuation="restart")
        found["optimizer"].load_state_dict(former["optimizer"].state_dict())
        with pytest.warns(UserWarning, match="planned for 6 steps, now 9") if steps == 9 else nullcontext():
            found["lr_scheduler"]["scheduler"].load_state_dict(state)
        assert module.rates.plan == plan


@pytest.mark.remedy("rates.py::PlannedRates._refuse_another")
@pytest.mark.remedy("rates.py::PlannedRates._refuse_another")
def test_the_state_of_another_optimiser_or_of_other_parameters_is_refused():
    module, former = configured(6)
    advance(former, 1)
    other = build(optimizer=partial(torch.optim.AdamW, lr=0.01))
    other._trainer = Steps(6)
    with pytest.raises(ValueError, match="another optimizer than AdamW: leave --model.optimizer as it was"):
        other.configure_optimizers()["optimizer"].load_state_dict(former["optimizer"].state_dict())
    next(module.parameters()).requires_grad_(False)
    frozen = module.configure_optimizers()["optimizer"]
    with pytest.raises(ValueError, match="of other parameters or groups: leave --model.segmenter.freeze_stages,"):
        frozen.load_state_dict(former["optimizer"].state_dict())
    with pytest.raises(ValueError, match="leave .* --model.segmenter.adapter, .* --model.layer_decay as they were"):
        resumed(former, 6, layer_decay=0.9)
    resumed(former, 6)


@pytest.mark.remedy("module.py::PPARModule.load_state_dict")
def test_weights_that_do_not_fit_are_refused_and_fit_where_they_come_from():
    segmenters = [Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=size) for size in (16, 8)]
    trained, other = (PPARModule(each, PPAROptions(enabled=False)) for each in segmenters)
    with pytest.raises(ValueError, match="does not fit the config .*size mismatch.*: give the config it was trained"):
        other.load_state_dict(trained.state_dict())
    PPARModule(segmenters[0], PPAROptions(enabled=False)).load_state_dict(trained.state_dict())


class Endless(IterableDataset):
    """Batches without an end."""

    def __iter__(self):
        return (Plain("uint8")[index] for index in count())


@pytest.mark.remedy("module.py::PPARModule.setup")
@pytest.mark.remedy("rates.py::planned_steps")
def test_a_training_without_steps_or_without_a_planned_end_is_refused(tmp_path):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"default_root_dir": tmp_path, "enable_checkpointing": False}
    endless = "no planned end: give --trainer.max_steps, the number"
    cases = [
        ({"max_epochs": -1, "max_time": "00:01:00:00"}, Plain("uint8"), endless),
        ({"max_time": "00:01:00:00"}, Plain("uint8"), endless),
        ({"min_steps": 2, "max_epochs": -1}, Plain("uint8"), endless),
        ({"max_epochs": 1}, Endless(), endless),
        ({"max_steps": 0}, Plain("uint8"), "no steps: set --trainer.max_steps, "),
        ({"max_epochs": 0}, Plain("uint8"), "no steps: set --trainer.max_steps, "),
        ({"limit_train_batches": 0, "max_epochs": 1}, Plain("uint8"), "no steps: set --trainer.max_steps, "),
    ]
    segmenter = Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=16)
    for options, images, said in cases:
        loader = DataLoader(images, batch_size=None)
        with pytest.raises(ValueError, match=said):
            Trainer(**quiet, **options).fit(PPARModule(segmenter, PPAROptions(enabled=False)), loader)
        remedied = Trainer(**quiet, **{**options, "max_steps": 2, "max_epochs": -1, "limit_train_batches": 1.0})
        remedied.fit(PPARModule(segmenter, PPAROptions(enabled=False)), loader)
        assert remedied.global_step == 2


class Plain(Dataset):
    """Batches of two images with labels, without names or domains."""

    def __init__(self, images: str, **entries) -> None:
        self.images = images
        self.entries = entries

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index):
        image = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        label = (image[:, 0] % 19).to(torch.uint8 if self.images == "uint8" else torch.int64)
        return {"image": image if self.images == "uint8" else image / 255, "label": label, **self.entries}


@pytest.mark.parametrize("enabled", [True, False])
def test_a_plain_trainer_fits_validates_and_predicts_with_plain_loaders(enabled, tmp_path):
    """Bytes and floats give the same weights and the same maps, and nothing of the data module is needed."""
    weights, maps = [], []
    for images in ("uint8", "float32"):
        torch.manual_seed(1)
        segmenter = Segmenter("resnet_small", "fpn", pretrained=False, decoder_channels=16)
        module = PPARModule(segmenter, PPAROptions(visual_size=32, clip_dtype="float32", enabled=enabled))
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = Trainer(max_steps=2, default_root_dir=tmp_path, enable_checkpointing=False, **options)
        plain = DataLoader(Plain(images), batch_size=None)
        trainer.fit(module, plain, DataLoader(Plain(images, window=(32, 16), domain=["a", "a"]), batch_size=None))
        assert trainer.global_step == 2
        assert all(loss.isfinite() for loss in module.loss_terms.values())
        trainer.validate(module, plain, verbose=False)
        trainer.test(module, plain, verbose=False)
        (first, *_) = trainer.predict(module, plain)
        assert first.label.shape == (2, 32, 64)
        assert ((first.confidence > 0) & (first.confidence <= 1)).all()
        weights.append(module.state_dict())
        maps.append(first.label)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert torch.equal(*maps)


def test_the_data_module_alone_prepares_batches():
    """Lightning warns in every run if the module overrides a hook that it shares with the data module."""
    assert not {"on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"} & set(
        vars(PPARModule)
    )
