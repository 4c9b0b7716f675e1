"""Weights to start from: of runs and saved segmenters by part and class, and of other libraries by their names."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from test_cli import fit, weights
from torch import Tensor
from torch.nn import functional as F

from ppar_lightning import Segmenter, load_segmenter
from ppar_lightning.callbacks.initial_weights import start_from
from ppar_lightning.cli import main
from ppar_lightning.convert.weights import translated
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.runs.manifest import read_manifest, training_notes
from ppar_lightning.segmenter.parts import part_of

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
QUICK = ("--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--model.segmenter.decoder_channels", "8")
OWN = ("road", "crate", "car", "box")
"""Classes of which the source has two, in another order."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def norm(name: str, width: int) -> Shapes:
    """Names and shapes of a batch norm, in the order of torch."""
    yield from ((f"{name}.{each}", (width,)) for each in ("weight", "bias", "running_mean", "running_var"))
    yield f"{name}.num_batches_tracked", ()


def resnet(depth: int, prefix: str = "backbone.") -> Shapes:
    """Names and shapes of a ResNet as in torchvision and mmsegmentation (``ResNet``, not ``ResNetV1c``)."""
    yield f"{prefix}conv1.weight", (64, 3, 7, 7)
    yield from norm(f"{prefix}bn1", 64)
    kernels, expansion = ((3, 3), 1) if depth == 18 else ((1, 3, 1), 4)
    width = 64
    for stage, blocks in enumerate(DEPTHS[depth]):
        inner = 64 << stage
        for block in range(blocks):
            name, before, out = f"{prefix}layer{stage + 1}.{block}", width, inner * expansion
            for number, kernel in enumerate(kernels, 1):
                after = out if number == len(kernels) else inner
                yield f"{name}.conv{number}.weight", (after, before, kernel, kernel)
                yield from norm(f"{name}.bn{number}", after)
                before = after
            if block == 0 and (stage > 0 or out != width):
                yield f"{name}.downsample.0.weight", (out, width, 1, 1)
                yield from norm(f"{name}.downsample.1", out)
            width = out


def unit(conv: str, bn: str, out: int, into: int, kernel: int = 1) -> Shapes:
    yield f"{conv}.weight", (out, into, kernel, kernel)
    yield from norm(bn, out)


def aspp(name: str, into: int) -> Shapes:
    for branch in range(4):
        yield from unit(f"{name}.convs.{branch}.0", f"{name}.convs.{branch}.1", 256, into, 1 if branch == 0 else 3)
    yield from unit(f"{name}.convs.4.1", f"{name}.convs.4.2", 256, into)
    yield from unit(f"{name}.project.0", f"{name}.project.1", 256, 1280)


def linear(name: str, out: int, into: int) -> Shapes:
    yield from ((f"{name}.weight", (out, into, 1, 1)), (f"{name}.bias", (out,)))


def deeplabv3(depth: int) -> Shapes:
    """torchvision's deeplabv3_resnet50 with its auxiliary head, 21 classes."""
    width = 512 if depth == 18 else 2048
    yield from resnet(depth)
    yield from aspp("classifier.0", width)
    yield from unit("classifier.1", "classifier.2", 256, 256, 3)
    yield from linear("classifier.4", 21, 256)
    yield from unit("aux_classifier.0", "aux_classifier.1", width // 8, width // 2, 3)
    yield from linear("aux_classifier.4", 21, width // 8)


def deeplabv3plus(depth: int) -> Shapes:
    """The widespread DeepLabV3+ on torchvision's ResNet and ASPP, 19 classes."""
    width = 512 if depth == 18 else 2048
    yield from resnet(depth)
    yield from unit("classifier.project.0", "classifier.project.1", 48, width // 8)
    yield from aspp("classifier.aspp", width)
    yield from unit("classifier.classifier.0", "classifier.classifier.1", 256, 304, 3)
    yield from linear("classifier.classifier.3", 19, 256)


def separable(name: str, out: int, into: int) -> Shapes:
    yield from unit(f"{name}.depthwise_conv.conv", f"{name}.depthwise_conv.bn", into, 1, 3)
    yield from unit(f"{name}.pointwise_conv.conv", f"{name}.pointwise_conv.bn", out, into)


def mmseg(depth: int) -> Shapes:
    """mmsegmentation's deeplabv3plus_r50b-d8: DepthwiseSeparableASPPHead and FCNHead, 19 classes."""
    width, head = (512, 128) if depth == 18 else (2048, 512)
    yield from resnet(depth)
    yield from linear("decode_head.conv_seg", 19, head)
    yield from unit("decode_head.image_pool.1.conv", "decode_head.image_pool.1.bn", head, width)
    yield from unit("decode_head.aspp_modules.0.conv", "decode_head.aspp_modules.0.bn", head, width)
    for branch in (1, 2, 3):
        yield from separable(f"decode_head.aspp_modules.{branch}", head, width)
    yield from separable("decode_head.bottleneck", head, 5 * head)
    yield from unit("decode_head.c1_bottleneck.conv", "decode_head.c1_bottleneck.bn", 48, width // 8)
    for number, into in enumerate((head + 48, head)):
        yield from separable(f"decode_head.sep_bottleneck.{number}", head, into)
    yield from linear("auxiliary_head.conv_seg", 19, 256)
    yield from unit("auxiliary_head.convs.0.conv", "auxiliary_head.convs.0.bn", 256, width // 2, 3)


FIXTURES = {"torchvision": deeplabv3, "mmseg": mmseg}


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    """Random weights under which activations neither die nor explode."""
    torch.manual_seed(0)
    state = {}
    for name, shape in shapes:
        spread = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) == 4 else 0.1
        state[name] = torch.randn(shape) * spread + (
            1 if name.endswith(("running_var", ".weight")) and len(shape) == 1 else 0
        )
    return {name: each.long() if name.endswith("tracked") else each for name, each in state.items()}


class Foreign:
    """The forward pass of a torchvision or mmsegmentation network over a state dict, in their names."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, x: Tensor, conv: str, bn: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2 * dilation, dilation=dilation)
        mean, var = (self.state[f"{bn}.running_{each}"] for each in ("mean", "var"))
        return F.batch_norm(x, mean, var, self.state[f"{bn}.weight"], self.state[f"{bn}.bias"], eps=1e-5)

    def features(self, image: Tensor, strides: tuple[int, ...], dilations: tuple[int, ...]) -> list[Tensor]:
        """Maps of the four stages; the first block of a dilated stage has the dilation of the stage before."""
        mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])  # mmsegmentation's
        x = (image * 255 - mean[:, None, None]) / std[:, None, None]
        x = F.max_pool2d(self.conv(x, "backbone.conv1", "backbone.bn1", 2).relu(), 3, 2, 1)
        maps, before = [], 1
        for stage, (stride, dilation) in enumerate(zip(strides, dilations, strict=True), 1):
            block = 0
            while (name := f"backbone.layer{stage}.{block}") + ".conv1.weight" in self.state:
                step, rate = (stride, before) if block == 0 else (1, dilation)
                out, units = x, 3 if f"{name}.conv3.weight" in self.state else 2
                for number in range(1, units + 1):
                    strided = number == units - 1  # the 3x3 of three, the first of two
                    out = self.conv(
                        out,
                        f"{name}.conv{number}",
                        f"{name}.bn{number}",
                        step if strided else 1,
                        rate if strided else 1,
                    )
                    out = out.relu() if number < units else out
                if f"{name}.downsample.0.weight" in self.state:
                    x = self.conv(x, f"{name}.downsample.0", f"{name}.downsample.1", step)
                x, block = (out + x).relu(), block + 1
            before = dilation
            maps.append(x)
        return maps

    def aspp(self, x: Tensor, name: str, rates: tuple[int, ...]) -> Tensor:
        parts = [
            self.conv(x, f"{name}.convs.{k}.0", f"{name}.convs.{k}.1", 1, rate).relu()
            for k, rate in enumerate((1, *rates))
        ]
        pooled = self.conv(x.mean((2, 3), keepdim=True), f"{name}.convs.4.1", f"{name}.convs.4.2").relu()
        return self.conv(
            torch.cat([*parts, pooled.expand_as(parts[0])], 1), f"{name}.project.0", f"{name}.project.1"
        ).relu()


def converted(tmp_path: Path, state: dict[str, Tensor], style: str, *words: str) -> Path:
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "foreign.pth")
    main(["convert", "weights", str(tmp_path / "foreign.pth"), str(tmp_path / "out"), "--style", style, *words])
    return tmp_path / "out"


def count(shapes: Shapes) -> int:
    """Number of parameters; the buffers of norms are none."""
    return sum(math.prod(shape) for name, shape in shapes if not re.search("running|tracked", name))


def test_the_names_and_shapes_are_those_of_torchvision():
    # figures that torchvision publishes; those of a ResNet-50 include a classifier of 1,000 classes
    assert count(deeplabv3(50)) == 42004074
    assert count(deeplabv3(101)) == 60996202
    assert count(resnet(50)) == 25557032 - 2048 * 1000 - 1000
    assert sum(len(shape) == 4 for _, shape in resnet(50)) == 53


def test_the_names_of_the_guide_are_translated_as_it_says():
    page = (Path(__file__).parents[1] / "docs" / "howto" / "fine_tune.md").read_text()
    rows = re.findall(r"^\| (both|torchvision|mmseg) \| (`.+`) \| `(.+)` \|$", page, flags=re.MULTILINE)
    assert len(rows) == 17
    for style, names, ours in rows:
        for each in ("torchvision", "mmseg") if style == "both" else (style,):
            assert {translated(name, each) for name in re.findall(r"`(.+?)`", names)} == {ours}
    known = {
        style: {name for name, _ in shapes(50) if translated(name, style) is None} for style, shapes in FIXTURES.items()
    }
    assert not any(name.startswith("backbone.") for names in known.values() for name in names)


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("depth", "prefix", "stride"), [(50, "backbone.", 8), (18, "", 32)])
def test_a_converted_backbone_computes_the_same(depth, prefix, stride, tmp_path, image, capsys):
    state = drawn(mmseg(depth) if prefix else resnet(depth, prefix))
    out = converted(tmp_path, state, "mmseg", "--output_stride", str(stride))
    described = json.loads((out / "config.json").read_text())
    ours = Segmenter(**described)
    assert described["backbone"] == f"microsoft/resnet-{depth}"
    ours.load_state_dict(load_file(out / "model.safetensors"), strict=False)
    foreign = Foreign({f"backbone.{name.removeprefix('backbone.')}": each for name, each in state.items()})
    dilated = ((1, 2, 1, 1), (1, 1, 2, 4)) if stride == 8 else ((1, 2, 2, 2), (1, 1, 1, 1))
    expected, found = foreign.features(image, *dilated), ours.eval().backbone(image)
    for map_, known in ((found[0], expected[0]), (found[-1], expected[-1])):
        assert torch.allclose(map_, known, rtol=1e-5, atol=1e-5 * float(known.abs().max()))
    said = capsys.readouterr().out
    assert "backbone: taken" in said
    if prefix:  # what has no counterpart is listed with its number of tensors
        assert "decode_head.bottleneck (12), decode_head.sep_bottleneck (24)" in said
        for part in ("head.low_level: taken", "auxiliary: taken", "head.aspp: new, no head.aspp", "classifier: new, "):
            assert part in said
        assert torch.equal(ours.auxiliary[1].bias, state["auxiliary_head.conv_seg.bias"])
    with pytest.raises(ValueError, match="Missing key"):  # nothing is drawn at random in its place
        load_segmenter(out)
    if not prefix:
        new = PPARModule(Segmenter(**described | {"classes": [*OWN]}), PPAROptions(enabled=False))
        record = start_from(new, str(out), "all")
        assert record["taken"].keys() == {"backbone"}
        assert record["new"]["classifier"] == "no classifier.weight"


def test_a_whole_deeplabv3plus_computes_the_same(tmp_path, image, capsys):
    state = drawn(deeplabv3plus(18))
    out = converted(tmp_path, state, "torchvision", "--output_stride", "32")
    assert "not taken: nothing\n" in capsys.readouterr().out
    foreign = Foreign(state)
    maps = foreign.features(image, (1, 2, 2, 2), (1, 1, 1, 1))
    low = foreign.conv(maps[0], "classifier.project.0", "classifier.project.1").relu()
    context = F.interpolate(foreign.aspp(maps[-1], "classifier.aspp", (3, 6, 9)), low.shape[2:], mode="bilinear")
    decoded = foreign.conv(torch.cat([low, context], 1), "classifier.classifier.0", "classifier.classifier.1").relu()
    name = "classifier.classifier.3"
    expected = F.interpolate(
        F.conv2d(decoded, state[f"{name}.weight"], state[f"{name}.bias"]), image.shape[2:], mode="bilinear"
    )
    assert torch.allclose(load_segmenter(out)(image), expected, atol=1e-5)


def test_a_deeplabv3_of_torchvision_gives_backbone_and_aspp(tmp_path, capsys):
    state = drawn(deeplabv3(18))
    file = tmp_path / "coco.safetensors"
    save_file({f"module.{name}": each for name, each in state.items()}, file)  # as DataParallel names them
    main(["convert", "weights", str(file), str(tmp_path / "out"), "--style", "torchvision", "--classes", "voc21"])
    said = capsys.readouterr().out
    taken = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(taken["head.aspp.project.0.weight"], state["classifier.0.project.0.weight"])
    assert torch.equal(taken["head.aspp.image.1.1.running_var"], state["classifier.0.convs.4.2.running_var"])
    for left in ("classifier.1 (1)", "classifier.2 (5)", "classifier.4 (2)"):  # its decoder has no low-level features
        assert left in said.partition("not taken: ")[2]
    assert {name.split(".")[0] for name in taken} == {"backbone", "head"}


@pytest.mark.remedy("convert/weights.py::main")
@pytest.mark.remedy("convert/weights.py::convert")
@pytest.mark.remedy("convert/weights.py::convert")
@pytest.mark.remedy("disk/tensors.py::read_tensors")
def test_what_cannot_be_converted_is_one_line(tmp_path, capsys):
    def fails(state: dict[str, Tensor], *words: str) -> str:
        with pytest.raises(SystemExit):
            converted(tmp_path, state, "torchvision", *words)
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    state = drawn(resnet(18)) | {
        "aux_classifier.4.weight": torch.zeros(5, 256, 1, 1),
        "aux_classifier.4.bias": torch.zeros(5),
    }
    assert "has 5 classes, the list 19: give its own with --classes" in fails(state)
    stem = {name.replace("conv1", "stem.0") if name == "backbone.conv1.weight" else name: state[name] for name in state}
    for short in (
        stem,
        {name: state[name] for name in state if "layer3.1.conv2" not in name},
        {name: state[name] for name in state if "layer4.1." not in name},
        {"fc.bias": torch.zeros(3)},
        {},
    ):
        line = fails(short, "--classes", str(write_list(tmp_path, 5)))
        assert "holds no whole ResNet in the names of torchvision (" in line
        assert (
            "give a state dict of tensors, as torch.save(network.state_dict(), FILE) writes it, of a plain ResNet"
            in line
        )
    missing = ["convert", "weights", str(tmp_path / "no.pth"), str(tmp_path / "out"), "--style", "mmseg"]
    with pytest.raises(SystemExit):
        main(missing)
    assert "no.pth not found: give a state dict" in capsys.readouterr().err
    converted(tmp_path, state, "torchvision", "--classes", str(write_list(tmp_path, 5)))  # a plain one, its own list
    with pytest.raises(SystemExit):
        converted(tmp_path, state, "torchvision")
    assert "out already exists: move it away, or give another folder" in capsys.readouterr().err
    (tmp_path / "out").rename(tmp_path / "away")
    torch.save(state, tmp_path / "no.pth")
    main([*missing, "--classes", str(write_list(tmp_path, 5))])


def write_list(folder: Path, number: int) -> Path:
    (folder / "classes.yaml").write_text(yaml.safe_dump([f"kind {k}" for k in range(number)]))
    return folder / "classes.yaml"


def module(*classes: str, enabled: bool = True, seed: int = 0, head: str = "fpn", **options: Any) -> PPARModule:
    torch.manual_seed(seed)
    segmenter = Segmenter("resnet_small", head, [*classes], pretrained=False, decoder_channels=8)
    return PPARModule(segmenter, PPAROptions(enabled=enabled, **options), seed=seed)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint of four classes, whose banks have moved, and its weights."""
    path = tmp_path_factory.mktemp("source") / "a.ckpt"
    old = module("sky", "road", "car", "rock", seed=1)
    state = old.state_dict()
    for name in ("prototypes.bank", "visual_bank.bank", "statistics.sums"):
        state[f"objective.{name}"].uniform_()
    torch.save({"segmenter": old.segmenter.description, "state_dict": state}, path)
    return path, state


def test_rows_are_taken_by_class_and_the_text_is_the_new_one(source, capsys):
    path, old = source
    new = module(*OWN)
    before = {name: each.clone() for name, each in new.state_dict().items()}
    record = start_from(new, str(path), "all")
    after = new.state_dict()
    for name, tensor in after.items():
        if name == "objective.prototypes.otp":
            assert torch.equal(tensor, before[name])
        elif re.search("classifier|bank|statistics", name):
            assert torch.equal(tensor[[0, 2]], old[name][[1, 2]])  # road and car
            assert torch.equal(tensor[[1, 3]], before[name][[1, 3]])  # crate and box
        else:
            assert torch.equal(tensor, old[name]), name
    assert (record["classes"], record["new_classes"], record["same_text"]) == (
        ["road", "car"],
        ["crate", "box"],
        ["road", "car"],
    )
    assert record["taken"].keys() == {"backbone", "head.lateral", "head.smooth", "classifier", "objective"}
    assert record["taken"]["classifier"] == [2, 4 * 8 + 4]
    assert (record["new"], record["unused"]) == ({}, [])
    assert "rows of classes by name: 2 of 4, 2 with the same text for PPAR; new: crate, box" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("part", "changes", "why"),
    [
        ("backbone", {}, {"head.smooth": "--weights_part backbone", "objective": "--weights_part backbone"}),
        ("all", {"prompts": ["a fog of {}"]}, {"objective": "no class has the same text there"}),
        (
            "all",
            {"level": "backbone"},
            {"objective": "objective.embed.weight has shape (128, 8, 1, 1) in place of (128, 256, 1, 1)"},
        ),
        (
            "all",
            {"head": "deeplabv3plus"},
            {"head.aspp": "no head.aspp.local.0.0.weight", "classifier": "it reads head.aspp, which is new"},
        ),
    ],
)
def test_a_part_that_does_not_fit_stays_new_and_says_why(part, changes, why, source, capsys):
    path, old = source
    new = module(*OWN, **changes)
    before = {name: each.clone() for name, each in new.state_dict().items()}
    record = start_from(new, str(path), part)
    said = " ".join(capsys.readouterr().out.split())
    for name, fault in why.items():
        assert record["new"][name] == fault
        assert name not in record["taken"]
    for name, tensor in new.state_dict().items():
        kept = part_of(name.removeprefix("segmenter.")) in record["new"]
        if not re.search("classifier|bank|statistics|otp", name):
            assert torch.equal(tensor, (before if kept else old)[name]), name
    assert "backbone" in record["taken"]
    assert "new: " in said
    if part == "backbone":
        assert record["taken"].keys() == {"backbone"}
        assert torch.equal(new.segmenter.classifier.weight, before["segmenter.classifier.weight"])


def test_no_common_class_and_no_objective(source, tmp_path):
    new = module("crate", "box")
    record = start_from(new, str(source[0]), "all")
    assert record["new"] == {
        "classifier": "no class of these names there",
        "objective": "no class has the same text there",
    }
    plain = module("sky", "road", "car", "rock", enabled=False)
    record = start_from(plain, str(source[0]), "all")
    assert (record["new"], record["unused"]) == ({}, ["objective"])
    plain.segmenter.save_pretrained(tmp_path / "saved")
    record = start_from(again := module(*OWN), str(tmp_path / "saved"), "all")
    assert record["new"] == {"objective": "no objective.embed.weight"}
    assert torch.equal(again.segmenter.classifier.weight[0], plain.segmenter.classifier.weight[1])


@pytest.mark.remedy("callbacks/initial_weights.py::start_from")
def test_another_backbone_is_refused(source):
    other = PPARModule(
        Segmenter("tinyclip", "pyramid", [*OWN], pretrained=False, decoder_channels=8), PPAROptions(enabled=False)
    )
    with pytest.raises(
        ValueError,
        match="is of the backbone resnet_small, the config has tinyclip .*: set --model.segmenter.backbone as in",
    ):
        start_from(other, str(source[0]), "all")
    start_from(module(*OWN, enabled=False), str(source[0]), "all")


def fails(capsys, *words: str) -> str:
    with pytest.raises(SystemExit):
        main([*words])
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def begun(source, tmp_path_factory) -> Path:
    """A run of two classes that began with the weights of four, and has trained a step at rate 0."""
    words = ("--model.segmenter.backbone", "resnet_small", "--model.segmenter.pretrained", "false", *QUICK)
    words += ("--model.ppar.enabled", "false", "--data.classes", '["road", "car"]', "--model.optimizer.lr", "0")
    return fit(tmp_path_factory.mktemp("begun") / "run", *words, "--weights", str(source[0]))


def again(run: Path, *words: str) -> list[str]:
    return ["fit", "--config", str(run / "config.yaml"), *words]


def test_a_training_begins_with_other_weights(source, begun, tmp_path, capsys):
    path, old = source
    assert torch.equal(weights(begun)["segmenter.classifier.weight"], old["segmenter.classifier.weight"][1:3])
    assert torch.load(begun / "checkpoints" / "last.ckpt")["global_step"] == 1
    config, record = yaml.safe_load((begun / "config.yaml").read_text()), read_manifest(begun)
    assert (config["weights"], config["weights_part"]) == (str(path), "all")
    assert record["weights"]["hash"] == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert f"Training started from the weights of `{path}` (backbone, head.lateral," in " ".join(training_notes(record))
    last = str(begun / "checkpoints" / "last.ckpt")
    for words, expected in {
        ("--ckpt_path", "last", "--weights", last): f"--weights {last} begins a training, --ckpt_path {last} continues",
        ("--ckpt_path", last, "--trainer.max_steps", "0"): f"{last} has done 1 steps, and --trainer.max_steps is 0",
        ("--ckpt_path", last, "--weights", "null", "--trainer.default_root_dir", str(tmp_path / "new")): (
            f"nothing is left to train: {last} has done 1 steps, and --trainer.max_steps is 1: plan more, or begin"
        ),
    }.items():
        assert expected in fails(capsys, *again(begun, *words))
    line = fails(capsys, "validate", *again(begun, "--weights", last)[1:])
    assert "--weights starts a training: give --ckpt_path, the checkpoint of a run" in line
    assert not (tmp_path / "new").exists()  # no folder that would count as a run


@pytest.mark.slow
@pytest.mark.remedy("callbacks/initial_weights.py::refuse_both")
@pytest.mark.remedy("cli/training.py::PPARCLI.before_instantiate_classes")
@pytest.mark.remedy("runs/checkpoints.py::refuse_finished")
def test_what_was_refused_is_done_as_it_says(begun, tmp_path, capsys):
    record, last = read_manifest(begun), str(begun / "checkpoints" / "last.ckpt")
    main(["validate", "--config", str(begun / "config.yaml"), "--ckpt_path", last, "--trainer.limit_val_batches", "1"])
    main(again(begun, "--ckpt_path", "last", "--trainer.max_steps", "2"))  # the weights in its config do not disturb
    assert read_manifest(begun)["weights"] == record["weights"]
    main(again(begun, "--ckpt_path", "last", "--weights", "null", "--trainer.max_steps", "3"))  # one of the two
    new = ("--trainer.default_root_dir", str(tmp_path / "new"))
    line = fails(capsys, *again(begun, *new, "--ckpt_path", last))
    assert f"nothing is left to train: {last} has done 3 steps" in line
    main(again(begun, *new, "--ckpt_path", last, "--trainer.max_steps", "4"))  # plan more
    main(again(begun, "--trainer.default_root_dir", str(tmp_path / "other"), *line.split("weights with ")[1].split()))
    assert [read_manifest(tmp_path / each)["steps"]["done"] for each in ("new", "other")] == [4, 3]
    for command in ("fit", "doctor"):  # a finished run in its own folder has nothing to do
        with suppress(SystemExit):
            main([command, *again(begun, "--ckpt_path", "last")[1:]])
    assert "no step is left to train" in capsys.readouterr().out
    assert read_manifest(begun)["steps"] == {"done": 3, "planned": 3}
