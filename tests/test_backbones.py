"""Backbones of the foundation models: what they load, the maps they give, other patch sizes, what is trained.

``data/checkpoints.json`` holds configs of published checkpoints, with the names and shapes of the tensors in their
files: those of the classes of transformers 5.0, which had other names (``0-23`` stands for each of the blocks).
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks
from stand_ins import small_config
from torch.nn.functional import interpolate
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    MetaClip2Config,
    PixioConfig,
    PvtV2Config,
    SiglipConfig,
    Tipsv2Config,
)

from ppar_lightning.cli import main
from ppar_lightning.data.datamodule import DomainDataModule
from ppar_lightning.data.domain import Domain
from ppar_lightning.doctor.padding import check_padding
from ppar_lightning.images.window import Window
from ppar_lightning.segmenter import pretrained
from ppar_lightning.segmenter.backbones import Backbone
from ppar_lightning.segmenter.segmenter import Segmenter

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2}
MLP = {"mlp_ratio": 2}
TEXT = VIT | {"vocab_size": 50}
VISION = VIT | {"image_size": 32, "patch_size": 8}
CONFIGS = {
    "dinov2": Dinov2Config(**VIT, **MLP, image_size=56),
    "dinov2_with_registers": Dinov2WithRegistersConfig(**VIT, **MLP, image_size=56, patch_size=14),
    "dinov3_vit": DINOv3ViTConfig(**VIT, image_size=64, num_register_tokens=4),
    "dinov3_convnext": DINOv3ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "pixio": PixioConfig(**VIT, **MLP, image_size=64),
    "tipsv2": Tipsv2Config(text_config=TEXT, vision_config=VIT | MLP | {"image_size": 56}),
    "clip": CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16),
    "metaclip_2": MetaClip2Config(text_config=TEXT, vision_config=VISION, projection_dim=16),
    "siglip": SiglipConfig(text_config=TEXT, vision_config=VISION),
    "pvt_v2": PvtV2Config(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 3, 4]),
}
CHECKPOINTS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "checkpoints.json").read_text())
PLAIN = [family for family, config in CONFIGS.items() if not hasattr(config, "depths")]
FIRST = {"dinov2_with_registers": 5, "dinov3_vit": 5, "pixio": 8, "tipsv2": 2, "siglip": 0}
"""Number of tokens before those of the patches, if it is not one."""


@pytest.fixture
def folder(tmp_path):
    """Save a model of a family with random weights, as its owner does."""

    def save(family: str, dtype: torch.dtype = torch.float32) -> str:
        torch.manual_seed(0)
        model = AutoModel.from_config(CONFIGS[family]).to(dtype)
        for weight in model.parameters():  # norms and scales of their own, too
            weight.data += 0.05 * torch.randn_like(weight)
        model.save_pretrained(tmp_path / family)
        return str(tmp_path / family)

    return save


def reference(path: str, family: str, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The patch tokens after each block, through the last norm, as the whole model of transformers gives them."""
    model = AutoModel.from_pretrained(path).float().eval()
    tower = getattr(model, "vision_model", model)
    options = {"interpolate_pos_encoding": True} if family in ("clip", "metaclip_2", "siglip") else {}
    hidden = tower(pixels, output_hidden_states=True, **options).hidden_states
    names = ("post_layernorm", "layernorm", "norm")
    norm = next(getattr(tower, name) for name in names if hasattr(tower, name))
    patch = getattr(CONFIGS[family], "vision_config", CONFIGS[family]).patch_size
    grid = [side // patch for side in pixels.shape[2:]]
    return [norm(each)[:, FIRST.get(family, 1) :].transpose(1, 2).unflatten(2, grid) for each in hidden[1:]]


@pytest.mark.parametrize("family", PLAIN)
def test_the_maps_of_any_blocks_of_a_plain_vit_are_its_patch_tokens(folder, family):
    path = folder(family)
    backbone = Backbone(path, (1, 3, 4)).eval()
    assert (backbone.plain, backbone.depth, backbone.channels) == (True, 4, [32, 32, 32])
    image = torch.rand(2, 3, backbone.stride * 2, backbone.stride * 3)
    with torch.no_grad():
        found = backbone(image)
        expected = reference(path, family, (image - backbone.mean) / backbone.std)
    for mine, block in zip(found, (1, 3, 4), strict=True):
        torch.testing.assert_close(mine, expected[block - 1], atol=1e-5, rtol=1e-4)
    assert torch.equal(Backbone(path).eval()(image)[0], found[-1])  # the last block alone


@pytest.mark.parametrize("family", ["dinov2", "dinov2_with_registers", "tipsv2", "clip"])
def test_another_patch_size_resizes_the_kernel_and_leaves_every_other_weight(folder, family):
    path = folder(family)
    own, other = Backbone(path, (1, 4)).eval(), Backbone(path, (1, 4), patch=16).eval()
    assert (own.stride, other.stride) == (8 if family == "clip" else 14, 16)
    state = own.state_dict()
    (kernel,) = [name for name, weight in state.items() if weight.ndim == 4]
    state[kernel] = interpolate(state[kernel], (16, 16), mode="bicubic")
    for name, weight in other.state_dict().items():
        torch.testing.assert_close(weight, state[name])
    image = torch.rand(1, 3, 64, 64)  # as many patches as the positions: these are not resized
    with torch.no_grad():
        maps, whole = other(image), other(torch.rand(1, 3, 32, 80))
        rebuilt = Backbone("a label", (1, 4), config=other.config, patch=16).eval()
        rebuilt.load_state_dict(other.state_dict())
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(rebuilt(image), maps, strict=True))
    assert [tuple(each.shape[2:]) for each in whole] == [(2, 5), (2, 5)]
    assert Backbone(path, (1, 4), pretrained=False, patch=16).config == other.config
    assert Backbone(path, (1, 4), patch=own.stride).config == own.config


@pytest.mark.remedy("segmenter/backbones.py::Backbone.__init__")
def test_patch_sizes_that_make_no_sense():
    sides = CONFIGS["dinov2"].to_diff_dict()
    for name, patch, config in (
        ("resnet_small", 16, None),
        ("wide", 16, sides | {"image_size": [56, 28]}),
        ("dinov2", 0, sides),
    ):
        fault = f"patch {patch}: leave it out for '{name}', or give 1 or more for a ViT of square images$"
        with pytest.raises(ValueError, match=fault):
            Backbone(name, pretrained=False, config=config, patch=patch)
    Backbone("resnet_small", pretrained=False)
    Backbone("dinov2", config=sides, patch=1)


def test_positions_of_dinov3_are_not_rescaled_in_training(folder):
    """The published configs rescale them at random, by up to 2, as in its pretraining."""
    path = folder("dinov3_vit")
    assert AutoConfig.from_pretrained(path).pos_embed_rescale == 2
    backbone, image = Backbone(path), torch.rand(1, 3, 64, 96)
    trained = backbone(image)[0]
    assert torch.equal(trained, backbone.eval()(image)[0])
    rebuilt = Backbone("a label", config=backbone.config)
    rebuilt.load_state_dict(backbone.state_dict())
    assert torch.equal(rebuilt(image)[0], trained)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with the config of a published checkpoint, and a stand-in for its file: zeros that take no memory."""

    def make(name: str, blocks: int) -> str:
        config = copy.deepcopy(CHECKPOINTS[name]["config"])
        for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
            part |= {name: min(number, blocks) for name, number in part.items() if name == "num_hidden_layers"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        state = {}
        for key, shape in CHECKPOINTS[name]["keys"].items():
            before, *bounds, after = [*re.split(r"\b(\d+)-(\d+)\b", key), ""][:4]
            numbers = range(int(bounds[0]), min(int(bounds[1]) + 1, blocks)) if len(bounds) == 2 else [""]
            state |= {f"{before}{number}{after}": torch.zeros(()).expand(shape) for number in numbers}
        load = pretrained.load_pretrained

        def read(loader: Any, name: str, **more: Any) -> Any:
            return loader.from_pretrained(None, state_dict=dict(state), **more) if more else load(loader, name)

        monkeypatch.setattr(pretrained, "load_pretrained", read)
        return str(tmp_path)

    return make


def is_as_published(path: str, name: str) -> None:
    """Every weight of the backbone is in the file, in this shape; and the mean and deviation are the family's."""
    backbone = Backbone(path)
    config = CHECKPOINTS[name]["config"].get("vision_config", CHECKPOINTS[name]["config"])
    assert backbone.stride == (config.get("patch_size", 14) if backbone.plain else 32)
    assert not any(weight.any() for weight in backbone.network.state_dict().values())
    family = CHECKPOINTS[name]["config"]["model_type"]
    red = {"clip": 0.48145466, "metaclip_2": 0.48145466, "siglip": 0.5, "tipsv2": 0.0}.get(family, 0.485)
    assert backbone.mean[0].item() == pytest.approx(red)


@pytest.mark.parametrize("name", [name for name in CHECKPOINTS if not re.search("giant|convnext|pvt", name)])
def test_the_first_block_of_a_published_file_is_read(published, name):
    is_as_published(published(name, 1), name)


@pytest.mark.slow  # all blocks of large networks
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_whole_published_file_is_read(published, name):
    is_as_published(published(name, 99), name)


@pytest.fixture
def build(tmp_path):
    """Build a small segmenter with random weights from a family's config."""

    def make(family: str, **options: Any) -> Segmenter:
        CONFIGS[family].save_pretrained(tmp_path / family)
        torch.manual_seed(0)
        options = {"classes": [*"abcde"], "decoder_channels": 32, "pretrained": False, **options}
        return Segmenter(str(tmp_path / family), **options)

    return make


@pytest.mark.parametrize("head", [None, "other"])
@pytest.mark.parametrize("family", CONFIGS)
def test_every_parameter_that_learns_has_a_gradient_or_ddp_would_fail(build, family, head):
    segmenter = build(family, head=head and ("pyramid" if family in PLAIN else "fpn")).train()
    output = segmenter.outputs(torch.rand(2, 3, 40, 72))
    assert output.logits.shape == (2, 5, 40, 72)
    loss = output.logits.square().mean()
    (loss if output.auxiliary is None else loss + output.auxiliary.square().mean()).backward()
    assert [name for name, p in segmenter.named_parameters() if p.requires_grad and p.grad is None] == []
    held = {name.partition("network.")[2] for name, p in segmenter.named_parameters() if not p.requires_grad}
    masks = {"embeddings.mask_token"} if family.startswith(("dino", "tips")) and family in PLAIN else set()
    assert held == ({"pixio.layernorm.weight", "pixio.layernorm.bias"} if family == "pixio" else masks)


def note(backbone: Backbone, crop: tuple[int, int], protocol: str, window: Window | None = None) -> list[str]:
    """What is said about the sizes of crops and windows."""
    data = DomainDataModule({"camvid": Domain()}, crop=crop, protocol=protocol, window=window)
    return [finding.message for finding in check_padding(backbone, data)]


def test_sizes_that_do_not_divide_are_named_with_the_nearest_that_do(build):
    own, other = build("dinov2").backbone, build("dinov2", patch=16).backbone
    crop, window = note(own, (512, 1024), "rein")
    fault = "is padded to [518, 1036], as the stride of the backbone is 14"
    near = "[504, 1022] or [518, 1036] is not, nor [512, 1024] with --model.segmenter.patch 16"
    assert crop == f"--data.crop [512, 1024] {fault}: {near}"
    assert window.startswith(
        "the window of protocol rein, 512 is padded to 518, as the stride of the backbone is 14: 504"
    )
    for size in ((504, 1022), (518, 1036)):
        assert note(own, size, "full") == []
    assert note(other, (512, 1024), "rein") == []
    assert note(own, (8, 14), "full") == [
        "--data.crop [8, 14] is padded to [14, 14], as the stride of the backbone is 14: [14, 14] is not"
    ]
    assert len(note(own, (14, 14), "full", Window(100, 50))) == 1
    assert len(note(build("pvt_v2").backbone, (100, 64), "full")) == 1


@pytest.mark.slow  # it starts two ranks
@pytest.mark.parametrize("family", CONFIGS)
def test_two_ranks_train_it_and_a_test_scores_it(folder, tmp_path, family):
    run, words = (
        tmp_path / "run",
        ["--config", small_config(tmp_path), "--trainer.default_root_dir", str(tmp_path / "run")],
    )
    words += ["--model.segmenter.backbone", folder(family), "--model.segmenter.head", "null"]
    run_ranks(2, main, ["fit", *words, "--trainer.strategy", "ddp", "--trainer.devices", "2"])
    main(["test", "--config", str(run / "config.yaml"), "--trainer.strategy", "auto", "--trainer.devices", "1"])
    assert json.loads((run / "test.json").read_text())["domains"]["urbansyn"]["images"] == 1
