"""Adapters: they start at the backbone's own function, are trained alone, and merge into plain weights."""

import re
import shutil
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml
from jsonargparse import dict_to_namespace
from lightning import Trainer
from ranks import run_ranks
from stand_ins import small_config
from test_cli import evaluate, weights
from test_ddp import FSDP, SGD
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Backbone,
    Dinov2Config,
    DINOv3ViTBackbone,
    DINOv3ViTConfig,
    SwinConfig,
    SwinModel,
)

from ppar_lightning import Segmenter, load_segmenter
from ppar_lightning import module as module_file
from ppar_lightning.analysis.loaded_run import load_run
from ppar_lightning.callbacks import last_checkpoint
from ppar_lightning.callbacks.initial_weights import start_from
from ppar_lightning.cli import main, resolve
from ppar_lightning.distributed import shard
from ppar_lightning.doctor.plan import plan
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.runs.stored import stored
from ppar_lightning.segmenter.adapter import (
    AdapterOptions,
    Targets,
    adapter_parameters,
    inject,
    linear_maps,
    merged,
)
from ppar_lightning.segmenter.backbones import Backbone
from ppar_lightning.segmenter.reference import named_base

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
SMALL = {
    "dinov2": (Dinov2Backbone, Dinov2Config(**VIT, patch_size=14, image_size=56, mlp_ratio=2)),
    "dinov3": (DINOv3ViTBackbone, DINOv3ViTConfig(**VIT, patch_size=16, image_size=64)),
    "clip": (CLIPVisionModel, CLIPVisionConfig(**VIT, patch_size=8, image_size=32)),
    "swin": (SwinModel, SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 2, 2, 2], window_size=4)),
    "convnext": (
        ConvNextModel,
        ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, layer_scale_init_value=1.0),
    ),
}
KINDS = ("lora", "dora", "soma")
SLOW_KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "soma")) for kind in KINDS]
"""Of which one is fast: the one that changes the most."""
OFF = AdapterOptions()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Small networks with weights, as folders that stand for the hub's."""
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    for name, (kind, config) in SMALL.items():
        kind(config).save_pretrained(folder / name)
    return folder


def build(folder: Path, name: str, adapter: AdapterOptions = OFF, seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    head = "fpn" if name in ("swin", "convnext") else "pyramid"
    return Segmenter(str(folder / name), head, classes=[*"abcde"], decoder_channels=16, adapter=adapter).eval()


def train(segmenter: Segmenter, image: Tensor, steps: int = 1) -> None:
    """Make steps; every trained parameter must have a gradient."""
    trained = {name: p for name, p in segmenter.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        segmenter(image).logsumexp(1).mean().backward()
        assert [name for name, p in trained.items() if p.grad is None] == []
        optimizer.step()


def gap(one: nn.Module, other: nn.Module, image: Tensor) -> float:
    """Largest difference of two networks, as a part of their largest output."""
    with torch.no_grad():
        outputs = [each(image) for each in (one, other)]
    return float((outputs[0] - outputs[1]).abs().max() / outputs[0].abs().max())


FAST = {("dinov2", "lora"), ("dinov2", "dora"), ("dinov2", "soma"), ("clip", "soma")}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[pytest.mark.slow] * ((name, kind) not in FAST))
        for name in SMALL
        for kind in KINDS
    ],
)
def test_an_adapter_starts_at_the_backbone_and_merges_into_it(folder, tmp_path, name, kind):
    plain, image = build(folder, name), torch.rand(2, 3, 64, 96)
    adapted = build(folder, name, AdapterOptions(kind, rank=4, alpha=8))
    assert gap(plain, adapted, image) <= 1e-6
    frozen = {key: value.clone() for key, value in adapted.state_dict().items() if ".base_layer.weight" in key}
    before = {key: value.clone() for key, value in merged(adapted.state_dict(), adapted.adapter).items()}
    train(adapted, image, 2)
    assert gap(plain, adapted, image) > 1e-3
    state = adapted.state_dict()
    assert all(torch.equal(state[key], value) for key, value in frozen.items())
    after = merged(state, adapted.adapter)
    assert list(after) == list(plain.state_dict())
    moved = {
        key for key in after if key.startswith("backbone.") and not torch.allclose(after[key], before[key], atol=1e-5)
    }
    biases = {key.replace("base_layer.weight", "bias") for key in frozen} & {*after} if kind == "soma" else set()
    keys = {key for key in after if key.endswith("k_proj.bias")}  # softmax does without them
    assert moved - keys == ({key.replace(".base_layer.", ".") for key in frozen} | biases) - keys
    adapted.save_pretrained(tmp_path / "saved")
    loaded = load_segmenter(tmp_path / "saved")
    assert gap(loaded, adapted, image) <= 1e-5
    assert loaded.description["adapter"] == asdict(OFF)
    assert gap(Segmenter.from_pretrained(tmp_path / "saved").eval(), loaded, image) == 0


def test_only_adapters_are_trained_in_the_backbone_and_they_have_a_name(folder):
    segmenter = build(folder, "dinov2", AdapterOptions("lora", rank=2))
    ids = adapter_parameters(segmenter)
    names = {name for name, p in segmenter.named_parameters() if id(p) in ids}
    assert names == {name for name, p in segmenter.backbone.named_parameters("backbone") if p.requires_grad}
    assert {name.split(".")[-3] for name in names} == {"lora_A", "lora_B"}
    assert all(p.dtype == torch.float32 for p in segmenter.parameters())
    assert not adapter_parameters(build(folder, "dinov2"))
    assert len(adapter_parameters(build(folder, "dinov2", AdapterOptions("soma", rank=2)))) == 3 * 6 * 3


def adapted_maps(segmenter: Segmenter) -> set[str]:
    return set(re.findall(r"(\d\.\S+)\.lora_A", " ".join(name for name, _ in segmenter.backbone.named_parameters())))


@pytest.mark.parametrize(
    ("targets", "maps"),
    [
        ("qkv", {f"attention.{each}_proj" for each in "qkv"}),
        ("attention", {f"attention.{each}_proj" for each in "qkvo"}),
        ("mlp", {"mlp.fc1", "mlp.fc2"}),
        ("all", {f"attention.{each}_proj" for each in "qkvo"} | {"mlp.fc1", "mlp.fc2"}),
    ],
)
def test_targets_and_blocks_are_those_asked_for(folder, targets, maps):
    segmenter = build(folder, "dinov2", AdapterOptions("lora", rank=2, targets=targets, from_block=1))
    assert adapted_maps(segmenter) == {f"{block}.{each}" for block in (1, 2) for each in maps}


def test_a_frozen_stage_has_no_adapter(folder):
    made = Segmenter(str(folder / "dinov2"), "pyramid", freeze_stages=2, adapter=AdapterOptions("lora", rank=2))
    assert {name[0] for name in adapted_maps(made)} == {"2"}


@pytest.mark.remedy("segmenter/adapter.py::AdapterOptions.__post_init__")
@pytest.mark.parametrize(
    ("wrong", "remedy", "right"),
    [
        ({"kind": "loha"}, r"kind in \('none', 'lora', 'dora', 'soma'\)", {"kind": "soma"}),
        ({"rank": 0}, "rank and alpha of 1 or more", {"rank": 1}),
        ({"alpha": 0}, "rank and alpha of 1 or more", {"alpha": 1}),
        ({"dropout": 1.0}, "dropout of 0 or more and below 1", {"dropout": 0.9}),
        ({"targets": "norms"}, r"targets in \('attention', 'qkv', 'mlp', 'all'\)", {"targets": "mlp"}),
        ({"from_block": -1}, "from_block of 0 or more", {"from_block": 0}),
    ],
)
def test_wrong_options_are_refused(wrong, remedy, right):
    named = re.escape(str(wrong)[1:-1])
    with pytest.raises(ValueError, match=f"^no adapter has .*{named}.*: give .*{remedy}"):
        AdapterOptions(**wrong)
    AdapterOptions(**right)


@pytest.mark.remedy("segmenter/adapter.py::inject")
@pytest.mark.remedy("segmenter/adapter.py::inject")
def test_a_backbone_without_linear_maps_and_a_missing_peft_are_named(folder, monkeypatch):
    given = {"head": "fpn", "pretrained": False, "decoder_channels": 8}
    fault = r"^ResNetBackbone has no trained linear maps \(all\) of rank 16 to adapt"
    remedy = "set --model.segmenter.adapter.kind none, or another from_block or targets, or choose a ViT, Swin or C"
    with pytest.raises(ValueError, match=f"{fault}: {remedy}"):
        Segmenter("resnet_small", **given, adapter=AdapterOptions("lora"))
    Segmenter("resnet_small", **given, adapter=AdapterOptions("none"))
    for name in ("convnext", "swin", "dinov2"):
        build(folder, name, AdapterOptions("lora", rank=2))
    for name, right in (("convnext", {"targets": "mlp"}), ("dinov2", {"from_block": 2})):
        with pytest.raises(ValueError, match=rf"\(attention\) of rank 2 to adapt: {remedy}"):
            build(folder, name, AdapterOptions("lora", rank=2, targets="attention", from_block=9))
        build(folder, name, AdapterOptions("lora", rank=2, **right))
    with pytest.raises(ValueError, match="of rank 64 .*: set --model.segmenter.adapter.rank 32 or less$"):
        build(folder, "dinov2", AdapterOptions("lora", rank=64))
    build(folder, "dinov2", AdapterOptions("lora", rank=32))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)  # any import of it fails
        with pytest.raises(
            ImportError, match=r"^model.segmenter.adapter needs the extra `peft`: pip install '.\[peft\]'$"
        ):
            build(folder, "dinov2", AdapterOptions("lora"))
        build(folder, "dinov2")
    build(folder, "dinov2", AdapterOptions("lora"))  # it is installed


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_new_adapters_start_from_the_merged_weights_of_another_run(folder, tmp_path, kind):
    image = torch.rand(2, 3, 56, 84)
    old = build(folder, "dinov2", AdapterOptions("dora", rank=3))
    train(old, image)
    state = {f"segmenter.{name}": tensor for name, tensor in old.state_dict().items()}
    torch.save({"segmenter": old.description, "state_dict": state}, tmp_path / "old.ckpt")
    assert gap(load_segmenter(tmp_path / "old.ckpt"), old, image) <= 1e-5
    new = PPARModule(build(folder, "dinov2", AdapterOptions(kind, rank=4), seed=1), PPAROptions(enabled=False))
    record = start_from(new, str(tmp_path / "old.ckpt"), "all")
    assert gap(new.segmenter, old, image) <= 1e-5
    plain = build(folder, "dinov2").backbone.state_dict()
    assert record["taken"]["backbone"] == [len(plain), sum(each.numel() for each in plain.values())]
    train(new.segmenter, image)


@pytest.mark.parametrize("kind", ["soma", pytest.param("dora", marks=pytest.mark.slow)])
def test_a_run_with_adapters_is_resumed_bit_by_bit_and_tested(folder, tmp_path, kind):
    config = run_config(tmp_path, folder / "dinov2", {"kind": kind, "rank": 4, "dropout": 0.1})
    every = ["--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1"]
    every += ["--model.ppar.enabled", str(kind == "dora").lower()]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    main(["fit", "--config", config, "--trainer.default_root_dir", str(whole), *every])
    (halfway,) = (whole / "checkpoints").glob("*step=1.ckpt")
    main(["fit", "--config", config, "--trainer.default_root_dir", str(resumed), *every, "--ckpt_path", str(halfway)])
    expected = weights(whole)
    assert any(".lora_" in name for name in expected)
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name
    assert {*evaluate(resumed)["domains"]} == {"camvid", "urbansyn"}
    loaded = load_segmenter(whole)
    assert not any("lora" in name or "base_layer" in name for name in loaded.state_dict())


def run_config(folder: Path, backbone: Path, adapter: dict[str, Any], **model: Any) -> str:
    """A config that trains two steps on a few small images with an adapter and no validation."""
    config = yaml.safe_load(Path(small_config(folder)).read_text())
    segmenter = {"backbone": str(backbone), "head": "pyramid", "decoder_channels": 16, "adapter": adapter}
    config["model"] |= {"segmenter": segmenter, **model}
    config["trainer"] |= {"limit_val_batches": 0}
    (folder / "adapter.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "adapter.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("ema", [None, {"decay": 0.5}])
def test_a_run_whose_checkpoints_have_no_base_is_resumed_bit_by_bit_and_tested(folder, tmp_path, ema):
    adapter = {"kind": "dora", "rank": 4, "dropout": 0.1}
    fits = ["fit", "--config", run_config(tmp_path, folder / "dinov2", adapter, checkpoint_base="reference", ema=ema)]
    fits += ["--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1", "--trainer.default_root_dir"]
    whole, less, more = (tmp_path / name for name in ("whole", "less", "more"))
    main([*fits, str(whole), "--model.checkpoint_base", "whole"])
    main([*fits, str(less)])
    main([*fits, str(more), "--ckpt_path", str(next((less / "checkpoints").glob("*step=1.ckpt")))])
    expected, held = weights(whole), weights(less)
    assert held.keys() < expected.keys()
    for run in (less, more):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(run).items())
        assert evaluate(run)["domains"] == evaluate(whole)["domains"]
    ends = [torch.load(run / "checkpoints" / "last.ckpt").get("current_model_state", {}) for run in (whole, less, more)]
    assert bool(ends[0]) == bool(ema)
    assert all(torch.equal(tensor, end[name]) for end in ends for name, tensor in ends[0].items())
    loaded = load_run(less).module.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items() if name in loaded)


def module_of(folder: Path, adapter: AdapterOptions, **options: Any) -> PPARModule:
    """A module at the start of a training."""
    module = PPARModule(build(folder, "dinov2", adapter), PPAROptions(enabled=False), **options)
    module.trainer = Trainer(accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False)
    module.setup("fit")
    return module


def checkpoint_of(module: PPARModule, path: Path) -> dict[str, Any]:
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return checkpoint


@pytest.mark.remedy("segmenter/reference.py::complete")
def test_a_checkpoint_without_the_base_needs_the_same_base(folder, tmp_path):
    base, image, adapter = tmp_path / "dinov2", torch.rand(1, 3, 28, 42), AdapterOptions("dora", rank=4)
    shutil.copytree(folder / "dinov2", base)
    module = module_of(tmp_path, adapter, checkpoint_base="reference")
    train(module.segmenter, image)
    less = checkpoint_of(module, tmp_path / "less.ckpt")
    outside = re.compile(r"\.lora_|patch_embed")
    names = {name for name in module.state_dict() if ".network." in name and not outside.search(name)}
    assert {*module.state_dict()} - {*less["state_dict"]} == names
    assert load_segmenter(tmp_path / "less.ckpt").state_dict().keys() == build(folder, "dinov2").state_dict().keys()
    assert gap(load_segmenter(tmp_path / "less.ckpt"), module.segmenter, image) <= 1e-5
    assert stored(less, {"backbone": str(base)})[0].items() >= {"pretrained": True, "backbone_config": None}.items()
    again = module_of(tmp_path, adapter)  # as in a test
    again.on_load_checkpoint(less)
    again.load_state_dict(less["state_dict"])
    assert gap(again.segmenter, module.segmenter, image) == 0
    whole = checkpoint_of(again, tmp_path / "whole.ckpt")

    base.rename(tmp_path / "away")
    with pytest.raises(OSError, match="cannot be loaded .*: give a folder that exists"):
        load_segmenter(tmp_path / "less.ckpt")
    torch.manual_seed(1)
    Dinov2Backbone(SMALL["dinov2"][1]).save_pretrained(base)
    fault = r"needs backbone weights with the hash \w+, model.segmenter.backbone has \w+: put the former there, or, if"
    with pytest.raises(ValueError, match=fault):
        load_segmenter(tmp_path / "less.ckpt")
    with pytest.raises(ValueError, match=fault):
        module_of(tmp_path, adapter).on_load_checkpoint(torch.load(tmp_path / "less.ckpt"))
    with pytest.raises(ValueError, match=f"{fault} it is whole, set --model.checkpoint_base whole"):
        module_of(tmp_path, adapter, checkpoint_base="reference").on_load_checkpoint(whole)
    module_of(tmp_path, adapter, checkpoint_base="whole").on_load_checkpoint(whole)
    shutil.rmtree(base)
    (tmp_path / "away").rename(base)
    assert gap(load_segmenter(tmp_path / "less.ckpt"), module.segmenter, image) <= 1e-5


def test_a_resized_patch_kernel_stays_in_a_checkpoint_without_the_base(folder, tmp_path):
    given = {"backbone": str(folder / "dinov2"), "head": "pyramid", "adapter": AdapterOptions("lora", rank=4)}
    module, again = (PPARModule(Segmenter(**given, patch=16), PPAROptions(enabled=False)) for _ in range(2))
    module.base = named_base(module, module.segmenter.referable)
    checkpoint = checkpoint_of(module.eval(), tmp_path / "less.ckpt")
    (kernel,) = (name for name in checkpoint["state_dict"] if "network" in name and name.endswith("projection.weight"))
    assert checkpoint["state_dict"][kernel].shape == (32, 3, 16, 16)
    with torch.no_grad():
        again.get_parameter(kernel).mul_(1.001)  # as resized on another machine, which changes no hash
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])
    assert gap(again.eval().segmenter, module.segmenter, torch.rand(1, 3, 32, 48)) == 0
    assert gap(load_segmenter(tmp_path / "less.ckpt"), module.segmenter, torch.rand(1, 3, 32, 48)) <= 1e-5


@pytest.mark.remedy("segmenter/adapter.py::AdapterOptions.refuse_other")
@pytest.mark.parametrize(
    "other", [{"alpha": 8}, {"kind": "dora"}, {"kind": "none"}, {"from_block": 1}, {"targets": "qkv"}, {"rank": 2}]
)
def test_a_checkpoint_of_other_adapters_is_refused(folder, tmp_path, other):
    own = {"kind": "lora", "rank": 4, "alpha": 4}
    for options, others in ((own, own | other), (own | other, own)):
        module = PPARModule(build(folder, "dinov2", AdapterOptions(**options)), PPAROptions(enabled=False))
        checkpoint = checkpoint_of(module, tmp_path / "a.ckpt")
        another = PPARModule(build(folder, "dinov2", AdapterOptions(**others), seed=1), PPAROptions(enabled=False))
        fault = "^the checkpoint was trained with another adapter: set --model.segmenter.adapter "
        with pytest.raises(ValueError, match=fault) as error:
            another.on_load_checkpoint(checkpoint)
        start_from(another, str(tmp_path / "a.ckpt"), "all")
        assert gap(another.segmenter, module.segmenter, torch.rand(1, 3, 28, 42)) <= 1e-5
        right = AdapterOptions(**yaml.safe_load(str(error.value).split('"')[1]))
        same = PPARModule(build(folder, "dinov2", right, seed=1), PPAROptions(enabled=False))
        same.on_load_checkpoint(checkpoint)
        same.load_state_dict(checkpoint["state_dict"])
    build(folder, "dinov2", AdapterOptions(**own, dropout=0.5)).adapter.refuse_other(AdapterOptions(**own))


@pytest.mark.remedy("segmenter/reference.py::named_base")
def test_a_base_that_only_the_checkpoint_has_is_never_left_out(folder, tmp_path, monkeypatch):
    kept, image = (AdapterOptions("lora", rank=4), AdapterOptions("soma", rank=4)), torch.rand(1, 3, 28, 42)
    fault = "^only the checkpoint has the backbone's weights .*: set --model.checkpoint_base whole$"
    build(folder, "dinov2", seed=3).save_pretrained(tmp_path / "saved")

    def taken(adapter: AdapterOptions, **options: Any) -> PPARModule:
        module = PPARModule(build(folder, "dinov2", adapter), PPAROptions(enabled=False), **options)
        start_from(module, str(tmp_path / "saved"), "all")
        module.trainer = Trainer(accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False)
        module.setup("fit")
        return module

    for make, adapter in ((module_of, kept[1]), (taken, kept[0])):
        given = () if make is taken else (folder,)
        with pytest.raises(ValueError, match=fault):
            make(*given, adapter, checkpoint_base="reference")
        module = make(*given, adapter, checkpoint_base="whole")
        checkpoint_of(module, tmp_path / "a.ckpt")
        assert gap(load_segmenter(tmp_path / "a.ckpt"), module.segmenter, image) <= 1e-5
    drawn = Segmenter(str(folder / "dinov2"), pretrained=False, adapter=kept[0])
    module = PPARModule(drawn, PPAROptions(enabled=False), checkpoint_base="reference")
    module.trainer = Trainer(accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=fault):
        module.setup("fit")
    sharded = module_of(folder, kept[0], checkpoint_base="reference")
    monkeypatch.setattr(module_file, "ModelParallelStrategy", type(sharded.trainer.strategy))
    with pytest.raises(ValueError, match=fault):
        sharded.setup("fit")


@pytest.mark.remedy("cli/training.py::PPARCLI.before_instantiate_classes")
@pytest.mark.remedy("cli/training.py::PPARCLI.before_instantiate_classes")
def test_a_checkpoint_that_cannot_go_on_so_is_refused_in_one_line(folder, tmp_path, capsys):
    small = run_config(tmp_path, folder / "dinov2", {"kind": "lora", "rank": 4}, checkpoint_base="reference")
    small = [small, "--model.ppar.enabled", "false", "--trainer.limit_test_batches", "1", "--trainer.max_steps"]
    run, words = tmp_path / "run", ["fit", "--config", *small]
    root, ema = ["--trainer.default_root_dir", str(run)], ["--model.ema.decay", "0.5"]
    main([*words, "1", *root, *ema])

    def fault(*command: str) -> str:
        with pytest.raises(SystemExit, match="1"):
            main([*command])
        return capsys.readouterr().err.splitlines()[-1]

    remedy = "which FSDP cannot add: set --trainer.strategy auto, or ddp"
    test = ["test", "--config", str(run / "config.yaml"), *FSDP]
    assert fault(*test).endswith(remedy)
    assert fault(*words, "2", *root, *ema, *FSDP, "--ckpt_path", "last").endswith(remedy)
    main([*test, "--trainer.strategy", "auto"])
    remedy = "set --model.ema as it was, or start from it with --weights"
    assert fault(*words, "2", *root, "--ckpt_path", "last").endswith(remedy)
    main([*words, "2", *root, *ema, "--ckpt_path", "last"])
    main(
        [
            *words,
            "1",
            "--trainer.default_root_dir",
            f"{run}2",
            "--model.checkpoint_base",
            "whole",
            "--weights",
            f"{run}",
        ]
    )


def test_room_is_needed_for_what_a_checkpoint_holds(folder, tmp_path, monkeypatch):
    module = module_of(folder, AdapterOptions("lora", rank=4), checkpoint_base="reference")
    parts: dict[str, Any] = {"lightning_module": module, "optimizers": [], "checkpoint_callbacks": []}
    trainer: Any = SimpleNamespace(default_root_dir=tmp_path / "run", **parts)
    held = sum(each.nbytes for each in checkpoint_of(module, tmp_path / "a.ckpt")["state_dict"].values())
    for free, raises in ((held, nullcontext()), (held - 1, pytest.raises(OSError, match="GB free"))):
        monkeypatch.setattr(last_checkpoint.shutil, "disk_usage", lambda disk, free=free: SimpleNamespace(free=free))
        with raises:
            last_checkpoint.lack_of_room(trainer)


def gradients(segmenter: Segmenter) -> dict[str, Tensor]:
    """Gradients of the trained parameters in float64, as rounding is all that may differ, without dropout."""
    segmenter.double().train().dropout.eval()
    image = torch.rand(2, 3, 28, 42, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    segmenter(image).logsumexp(1).mean().backward()
    return {name: p.grad for name, p in segmenter.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_gradient_checkpointing_keeps_the_gradients(folder, kind):
    plain, other = (build(folder, "dinov2", AdapterOptions(kind, rank=4)) for _ in range(2))
    other.backbone.network.gradient_checkpointing_enable()
    assert other.backbone.network.is_gradient_checkpointing
    torch.testing.assert_close(gradients(other), gradients(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_what_is_compiled_is_one_graph_and_keeps_the_gradients(folder, kind):
    plain, other = (build(folder, "dinov2", AdapterOptions(kind, rank=4)) for _ in range(2))
    torch._dynamo.reset()
    part = other.backbone.network.encoder.layer[0].mlp if kind == "soma" else other.backbone  # which takes longer
    part.compile(backend="eager", fullgraph=kind != "dora")  # peft's looks at the type of the weight in each pass
    torch.testing.assert_close(gradients(other), gradients(plain), rtol=1e-9, atol=1e-12)


REAL = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE = {
    "facebook/dinov2-large": Dinov2Config(**REAL, patch_size=14, image_size=518),
    "facebook/dinov3-vitl16": DINOv3ViTConfig(**REAL, intermediate_size=4096, patch_size=16, num_register_tokens=4),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_maps_of_the_real_networks_are_found(name):
    with torch.device("meta"):
        backbone = Backbone(name, pretrained=False, config=LARGE[name].to_dict())

    def shapes(targets: Targets, from_block: int = 0) -> Counter[tuple[str, int, int]]:
        maps = linear_maps(backbone, AdapterOptions("lora", targets=targets, from_block=from_block))
        return Counter((name.rpartition(".")[2], *each.weight.shape) for name, each in maps.items())

    up, down = ("fc1", "fc2") if "dinov2" in name else ("up_proj", "down_proj")
    square, mlp = [(f"{each}_proj", 1024, 1024) for each in "qkvo"], [(up, 4096, 1024), (down, 1024, 4096)]
    assert shapes("qkv") == dict.fromkeys(square[:3], 24)
    assert shapes("attention") == dict.fromkeys(square, 24)
    assert shapes("mlp") == dict.fromkeys(mlp, 24)
    assert shapes("all", 8) == dict.fromkeys([*square, *mlp], 16)
    assert inject(backbone, AdapterOptions("soma", targets="qkv"), named=False) is False
    biases = 2 if "dinov3" in name else 3  # a key of DINOv3 has none
    assert len(adapter_parameters(backbone)) == 24 * (3 * 2 + biases)


def step_on_two_ranks(folder: Path, kind: str, sharded: bool) -> None:
    """A step on half of a batch each, under DDP or FSDP, moves the adapters as a step of one rank on all of it."""
    dist.init_process_group("gloo")
    images, gathered = torch.rand(2, 3, 28, 42, generator=torch.Generator().manual_seed(0)), {}
    for ranks in (1, 2):
        segmenter = build(folder, "dinov2", AdapterOptions(kind, rank=4))
        here = images if ranks == 1 else images[dist.get_rank() :][:1]
        network: nn.Module = segmenter
        if ranks == 2 and sharded:
            for part in segmenter.children():
                shard(part, dist.init_device_mesh("cpu", (2,)))
        elif ranks == 2:
            network = DistributedDataParallel(segmenter)  # an unused parameter is an error of the second step
        optimizer = torch.optim.SGD([p for p in segmenter.parameters() if p.requires_grad], lr=1.0)
        for _ in range(2):
            optimizer.zero_grad()
            network(here).logsumexp(1).mean().backward()
            optimizer.step()
        state = segmenter.state_dict()
        gathered[ranks] = {
            name: each.full_tensor() if sharded and ranks == 2 and hasattr(each, "full_tensor") else each
            for name, each in state.items()
        }
    torch.testing.assert_close(gathered[2], gathered[1], rtol=1e-4, atol=1e-5)
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["soma", pytest.param("dora", marks=pytest.mark.slow)])
@pytest.mark.parametrize("sharded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_on_two_ranks_is_that_of_one(folder, kind, sharded):
    run_ranks(2, step_on_two_ranks, folder, kind, sharded)


@pytest.mark.slow
def test_the_plan_counts_the_adapter(folder, tmp_path):
    config = run_config(tmp_path, folder / "dinov2", {"kind": "soma", "rank": 16})
    rows = dict(plan(dict_to_namespace(resolve(["--config", config, "--model.ppar.enabled", "false"]))))
    segmenter = build(folder, "dinov2", AdapterOptions("soma", rank=16))
    number = sum(p.numel() for p in segmenter.parameters() if id(p) in adapter_parameters(segmenter))
    assert rows["parameters, adapter"] == f"{number / 1e6:.2f} M trained, 0.00 M frozen"
    assert rows["parameters, backbone"].startswith(f"{number / 1e6:.2f} M trained, ")


@pytest.mark.slow
def test_a_sharded_run_stores_what_one_rank_does(folder, tmp_path):
    fits = ["fit", "--config", run_config(tmp_path, folder / "dinov2", {"kind": "soma", "rank": 4}), *SGD]
    fits += ["--model.ppar.enabled", "false", "--model.segmenter.head", "pyramid", "--trainer.default_root_dir"]
    run_ranks(2, main, [*fits, str(tmp_path / "two"), *FSDP, "--trainer.devices", "2", "--data.batch_size", "1"])
    main([*fits, str(tmp_path / "one")])
    one, two = (load_segmenter(tmp_path / name).state_dict() for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=2e-5)
