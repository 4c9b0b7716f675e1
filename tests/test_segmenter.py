"""The segmenter on every family of backbones, built from small configs saved to a folder."""

import copy
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    ConvNextConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    HieraConfig,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SwinConfig,
    TimmBackboneConfig,
    ViTConfig,
)

from ppar_lightning.images.window import Window
from ppar_lightning.segmenter.backbones import Backbone, stem_and_stages
from ppar_lightning.segmenter.heads import DeepLabV3Plus, Pyramid
from ppar_lightning.segmenter.pretrained import SHIPPED
from ppar_lightning.segmenter.segmenter import Segmenter
from tools import tinyclip

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 2, 2]),
    "basic-resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 2], layer_type="basic"
    ),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "swin": SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4, drop_path_rate=0.0),
    "dinov2": Dinov2Config(**VIT, patch_size=14, image_size=56, mlp_ratio=2),
    "registers": Dinov2WithRegistersConfig(**VIT, patch_size=14, image_size=56, mlp_ratio=2),
    "clip_vision": CLIPVisionConfig(**VIT, image_size=32, patch_size=8),
    "clip": CLIPConfig(
        text_config={**VIT, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
        vision_config={**VIT, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    ),
}
PLAIN = ("dinov2", "registers", "clip_vision", "clip")
FAMILIES = ("resnet", "convnext", "swin", "dinov2", "clip_vision", "clip")


@pytest.fixture
def folder(tmp_path):
    """Save a family's config to a folder."""

    def save(family):
        CONFIGS[family].save_pretrained(tmp_path / family)
        return str(tmp_path / family)

    return save


@pytest.fixture
def build(folder):
    """Build a small segmenter with random weights."""

    def make(family, seed=0, **options):
        torch.manual_seed(seed)
        head = "pyramid" if family in PLAIN else "deeplabv3plus"
        options = {"head": head, "classes": [*"abcde"], "decoder_channels": 32, "pretrained": False, **options}
        return Segmenter(folder(family), **options)

    return make


def train_step(segmenter, size=(32, 64)):
    segmenter.train()
    output = segmenter.outputs(torch.rand(2, 3, *size))
    loss = output.logits.square().mean()
    if output.auxiliary is not None:
        loss = loss + output.auxiliary.square().mean()
    loss.backward()
    return output


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(64, 96), (45, 83), (9, 150)])
def test_logits_have_the_size_of_the_image(build, family, size):
    segmenter = build(family).eval()
    with torch.no_grad():
        output = segmenter.outputs(torch.rand(1, 3, *size))
    stride = segmenter.backbone.stride
    padded = [-(-side // stride) * stride for side in size]
    assert output.logits.shape == (1, 5, *size)
    assert output.backbone.shape == (1, segmenter.backbone_channels, padded[0] // stride, padded[1] // stride)
    assert output.decoder.shape[:2] == (1, segmenter.decoder_channels)
    assert padded[0] / output.decoder.shape[2] == (3.5 if family == "dinov2" else 4)
    assert output.auxiliary is None
    assert torch.isfinite(output.logits).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainable_parameter_gets_a_gradient(build, family):
    segmenter = build(family)
    train_step(segmenter)
    assert [n for n, p in segmenter.named_parameters() if p.requires_grad and p.grad is None] == []
    unused = {"dinov2": {"mask_token"}, "swin": {"weight", "bias"}}  # Swin's norm after the last stage
    assert {n.split(".")[-1] for n, p in segmenter.named_parameters() if not p.requires_grad} == unused.get(
        family, set()
    )


STEM = {
    "resnet": "embedder",
    "convnext": "embeddings",
    "swin": "swin.embeddings",
    "dinov2": "embeddings",
    "clip_vision": "tower.embeddings tower.pre_layrnorm",
    "clip": "tower.embeddings tower.pre_layrnorm",
}
STAGES = {
    "resnet": "encoder.stages",
    "convnext": "encoder.stages",
    "swin": "swin.encoder.layers",
    "dinov2": "encoder.layer",
    "clip_vision": "tower.encoder.layers",
    "clip": "tower.encoder.layers",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_stages_stay_as_they_are(build, family):
    """The stem and the first two stages: neither gradient nor statistics move, and no later train() wakes them."""
    segmenter = build(family, freeze_stages=2)
    network = segmenter.backbone.network
    held = [network.get_submodule(path) for path in STEM[family].split()]
    held += [network.get_submodule(f"{STAGES[family]}.{stage}") for stage in (0, 1)]
    free = network.get_submodule(f"{STAGES[family]}.2")
    before = [copy.deepcopy(module.state_dict()) for module in held]
    moving = copy.deepcopy(free.state_dict())

    optimizer = torch.optim.SGD([p for p in segmenter.parameters() if p.requires_grad], lr=0.5)
    train_step(segmenter.eval())
    optimizer.step()
    for module, state in zip(held, before, strict=True):
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
        assert not any(m.training for m in module.modules())
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert all(p.grad is not None for p in free.parameters())
    assert all(m.training for m in free.modules())
    assert any(not torch.equal(value, moving[key]) for key, value in free.state_dict().items())


def test_predicting_in_the_middle_of_a_training_leaves_it_alone(build):
    segmenter = build("resnet", freeze_stages=1).train()
    segmenter.head.eval()  # as somebody may freeze a part
    picture = torch.rand(3, 33, 60)
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    modes = [module.training for module in segmenter.modules()]
    label = segmenter.predict(picture)
    assert [module.training for module in segmenter.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())
    assert torch.equal(segmenter.eval().predict(picture), label)


def test_no_frozen_stage_freezes_nothing(build):
    segmenter = build("resnet", freeze_stages=0).eval().train()
    assert all(p.requires_grad for p in segmenter.parameters())
    assert all(m.training for m in segmenter.modules())


@pytest.mark.remedy("segmenter/backbones.py::Backbone.__init__")
@pytest.mark.parametrize(("family", "stages"), [("resnet", 4), ("clip", 3)])
def test_more_frozen_stages_than_there_are(build, family, stages):
    with pytest.raises(ValueError, match=f"freeze_stages is {stages + 1}: choose 0-{stages}, "):
        build(family, freeze_stages=stages + 1)
    for number in (0, stages):
        build(family, freeze_stages=number)


@pytest.mark.parametrize("family", ["resnet", "basic-resnet"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_keeps_weights_and_receptive_fields(build, family, output_stride):
    """The dilated ResNet's last map, taken at every other position, is the plain one's."""
    dilated = build(family, output_stride=output_stride).backbone.eval()
    plain = build(family, output_stride=32).backbone.eval()
    weights = plain.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in dilated.state_dict().items())
    assert dilated.state_dict().keys() == weights.keys()
    image = torch.rand(1, 3, 128, 192)
    with torch.no_grad():
        fine, coarse = dilated(image)[-1], plain(image)[-1]
    step = 32 // output_stride
    assert fine.shape[2:] == (128 // output_stride, 192 // output_stride)
    assert coarse.shape[2:] == (4, 6)
    torch.testing.assert_close(fine[..., ::step, ::step], coarse)


def test_resnet_has_output_stride_16_by_default(build):
    assert build("resnet").outputs(torch.rand(2, 3, 64, 128)).backbone.shape == (2, 40, 4, 8)


def test_aspp_rates_follow_the_output_stride():
    def rates(stride):
        return [
            c.dilation[0] for c in DeepLabV3Plus((8, 8), 8, stride).aspp.local.modules() if isinstance(c, nn.Conv2d)
        ]

    assert rates(16) == [1, 6, 12, 18]
    assert rates(8) == [1, 12, 24, 36]


@pytest.mark.parametrize("family", ["resnet", "convnext", "swin"])
def test_auxiliary_logits_in_training_alone(build, family):
    segmenter = build(family)
    columns = {"resnet": 5}.get(family, 6)  # of the padded image, at stride 16; a dilated ResNet pads to 80 columns
    assert train_step(segmenter, size=(50, 70)).auxiliary.shape == (2, 5, 4, columns)
    assert segmenter.eval().outputs(torch.rand(1, 3, 64, 64)).auxiliary is None
    without = build(family, auxiliary=False)
    assert train_step(without).auxiliary is None
    assert [n for n, p in without.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("patch", [4, 8, 14, 16, 32])
def test_pyramid_decodes_to_stride_4_or_finer(patch):
    decoder = Pyramid(32, 16, patch)([torch.rand(1, 32, 3, 5)])
    assert decoder.shape[:2] == (1, 16)
    assert 2 < 3 * patch / decoder.shape[2] <= 4
    assert decoder.shape[3] * 3 == decoder.shape[2] * 5


def test_pyramid_tells_neighbouring_cells_of_a_patch_apart():
    """A 4-pixel pole is thinner than CLIP's 8-pixel patch: four of its cells differ although their token is one."""
    torch.manual_seed(0)
    head = Pyramid(32, 16, 8)
    decoder = head([torch.rand(1, 32, 4, 4)])[0, :, 2:4, 2:4].flatten(1).T
    assert torch.pdist(decoder).min() > 0.1


def test_concat_at_vit_l_has_the_size_of_dgvfms():
    """Maps of blocks 6, 12, 18 and 24, mixed to 256 channels: 1.6 M parameters."""
    config = {"model_type": "dinov2", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device("meta"):
        segmenter = Segmenter("dinov2", backbone_config=config)
    assert segmenter.backbone.network.out_indices == [6, 12, 18, 24]
    head = [p.numel() for part in (segmenter.head, segmenter.classifier) for p in part.parameters()]
    assert sum(head) == pytest.approx(1.6e6, rel=0.02)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_concat_reads_blocks_at_quarters_of_the_depth(depth):
    config = {"model_type": "dinov2", **VIT, "num_hidden_layers": depth, "image_size": 56, "mlp_ratio": 2}
    segmenter = Segmenter("dinov2", backbone_config=config, decoder_channels=32).eval()
    blocks = {1: [1], 2: [1, 2], 3: [1, 2, 3], 5: [2, 3, 4, 5]}[depth]
    assert segmenter.backbone.network.out_indices == blocks
    with torch.no_grad():
        output = segmenter.outputs(torch.rand(1, 3, 28, 42))
    assert output.decoder.shape == (1, 32, 8, 12)
    every = Backbone("dinov2", range(1, depth + 1), config=config).eval()
    every.load_state_dict(segmenter.backbone.state_dict())
    maps = every(torch.rand(1, 3, 28, 42, generator=torch.Generator().manual_seed(0)))
    read = segmenter.backbone(torch.rand(1, 3, 28, 42, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(each, maps[block - 1]) for each, block in zip(read, blocks, strict=True))


@pytest.mark.parametrize(("family", "head"), [("dinov2", "concat"), ("clip", "concat"), ("resnet", "deeplabv3plus")])
def test_without_a_name_the_head_suits_the_backbone(build, family, head):
    segmenter = build(family, head=None)
    assert segmenter.description["head"] == head
    assert len(segmenter.backbone.channels) == 3  # all blocks of a small ViT; of the ResNet one beside first and last
    again = Segmenter(**segmenter.description)
    again.load_state_dict(segmenter.state_dict())


def test_dropout_of_concat_leaves_the_features_whole(build):
    """PPAR aligns the decoder's map, and the classifier alone reads it with a tenth of the channels left out."""
    output = build("dinov2", head="concat", decoder_channels=64).train().outputs(torch.rand(2, 3, 28, 28))
    assert (output.decoder.abs().amax(dim=(2, 3)) > 0).all()
    classifier = build("dinov2", head="concat", decoder_channels=64).classifier
    assert not torch.equal(output.coarse, classifier(output.decoder))


def test_padding_changes_only_what_it_must(build):
    """An image that ends in its own replicated border gives the logits of the padded image."""
    segmenter = build("clip").eval()
    image = torch.rand(1, 3, 30, 45)
    padded = functional.pad(image, (0, 3, 0, 2), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(segmenter(image), segmenter(padded)[..., :30, :45])


def test_clip_map_is_the_normed_patch_tokens(folder):
    backbone = Backbone(folder("clip"), pretrained=False).eval()
    image = torch.rand(2, 3, 16, 40)
    tower = backbone.network.tower
    pixels = (image - backbone.mean) / backbone.std
    hidden = tower(pixels, interpolate_pos_encoding=True).last_hidden_state
    (features,) = backbone(image)
    assert features.shape == (2, 32, 2, 5)
    torch.testing.assert_close(features[1, :, 1, 3], tower.post_layernorm(hidden[1, 1 + 1 * 5 + 3]))


def test_pretrained_clip_is_the_image_tower_in_float32(tmp_path, capfd):
    clip = CLIPModel(CONFIGS["clip"])
    clip.half().save_pretrained(tmp_path)
    capfd.readouterr()
    backbone = Backbone(str(tmp_path))
    assert "UNEXPECTED" not in "".join(capfd.readouterr())
    loaded, saved = backbone.network.tower.state_dict(), clip.vision_model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(v.dtype == torch.float32 and torch.equal(v, saved[k].float()) for k, v in loaded.items())


def test_tinyclip_is_the_clip_that_ships():
    shipped, named = Segmenter("tinyclip").backbone, Backbone(str(tinyclip.PATH))
    assert all(torch.equal(value, shipped.state_dict()[key]) for key, value in named.state_dict().items())


def test_pretrained_resnet_drops_its_classifier(tmp_path):
    classifier = ResNetForImageClassification(CONFIGS["resnet"])
    classifier.save_pretrained(tmp_path)
    segmenter = Segmenter(str(tmp_path), "deeplabv3plus", decoder_channels=16)
    loaded, saved = segmenter.backbone.network.state_dict(), classifier.resnet.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


@pytest.mark.remedy("segmenter/pretrained.py::load_weights")
def test_weights_that_do_not_fit(tmp_path):
    ResNetForImageClassification(CONFIGS["resnet"]).save_pretrained(tmp_path)
    CONFIGS["convnext"].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks \S+ and others: give the config.json it was saved w"):
        Backbone(str(tmp_path))
    CONFIGS["resnet"].save_pretrained(tmp_path)
    Backbone(str(tmp_path))


def test_images_are_normalised_as_the_preprocessor_says(folder):
    path = folder("resnet")
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.1, 0.4]}
    (Path(path) / "preprocessor_config.json").write_text(json.dumps(settings))
    backbone = Backbone(path, pretrained=False).eval()
    seen = []
    backbone.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    backbone(torch.tensor([0.7, 0.5, 0.1]).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[0][0, :, 5, 7], torch.tensor([1.0, 1.0, -0.5]))


@pytest.mark.parametrize(("family", "red"), [("resnet", 0.485), ("clip", 0.48145466)])
def test_normalisation_of_the_family_without_a_preprocessor(folder, family, red):
    assert Backbone(folder(family), pretrained=False).mean[0].item() == pytest.approx(red)


@pytest.mark.parametrize("family", ["resnet", "dinov2", "clip"])
def test_same_seed_same_weights(build, family):
    first, second, other = (build(family, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_and_checkpoints(build, family):
    segmenter = build(family, freeze_stages=1)
    train_step(segmenter)  # moves the running statistics
    image = torch.rand(1, 3, 40, 40)
    expected = segmenter.eval()(image)
    loaded = build(family, seed=3).eval()
    assert not torch.allclose(loaded(image), expected)
    loaded.load_state_dict(segmenter.state_dict())
    copied = copy.deepcopy(segmenter).train()
    torch.testing.assert_close(loaded(image), expected)
    assert not any(m.training for m in copied.backbone.network.get_submodule(STEM[family].split()[0]).modules())


@pytest.mark.parametrize("family", ["resnet", "clip"])
def test_bf16_autocast(build, family):
    segmenter = build(family)
    with torch.autocast("cpu", torch.bfloat16):
        train_step(segmenter)
        logits = segmenter.eval()(torch.rand(1, 3, 40, 40))
    assert logits.shape == (1, 5, 40, 40)
    assert all(p.grad.isfinite().all() for p in segmenter.parameters())


class Calls(TorchDispatchMode):
    """Counts the operations, and how often each weight is cast."""

    def __init__(self, network):
        super().__init__()
        self.names = {weight.data_ptr(): name for name, weight in network.named_parameters()}
        self.operations, self.casts = Counter(), Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.operations[name] += 1
        if name == "_to_copy" and args[0].data_ptr() in self.names:
            self.casts[self.names[args[0].data_ptr()]] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("family", ["resnet", "dinov2", "clip"])
def test_a_step_in_bf16_casts_each_weight_once(build, family, frozen):
    segmenter = build(family)
    if frozen:
        segmenter = build(family, freeze_stages=segmenter.backbone.depth)
    with Calls(segmenter) as calls, torch.autocast("cpu", torch.bfloat16):
        train_step(segmenter)
    products = [m for m in segmenter.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    assert calls.casts.total() == sum(len([*product.parameters()]) for product in products)
    assert set(calls.casts.values()) == {1}


@pytest.mark.parametrize("family", ["dinov2", "registers", "clip"])
def test_attention_is_fused_and_no_step_resizes_by_the_bicubic_kernel(build, family):
    segmenter = build(family)
    train_step(segmenter, (70, 28))
    with Calls(segmenter) as calls:
        train_step(segmenter, (70, 28))
    attention = [name for name in calls.operations.elements() if "attention" in name and "backward" not in name]
    assert len(attention) == VIT["num_hidden_layers"]
    assert not calls.operations.keys() & {"_softmax", "upsample_bicubic2d", "_upsample_bicubic2d_aa"}


@pytest.mark.parametrize("size", [(4, 4), (2, 3), (7, 5), (8, 2), (1, 1)])
@pytest.mark.parametrize("family", ["dinov2", "registers", "clip"])
def test_position_embeddings_are_resized_as_transformers_does(build, family, size):
    network = build(family).backbone.network
    (module,) = [m for m in network.modules() if hasattr(m, "interpolate_pos_encoding")]
    height, width = (side * module.config.patch_size for side in size)
    weight = torch.rand(1, 1 + size[0] * size[1], 32)
    results = []
    for ours in (True, False):
        resize = module.interpolate_pos_encoding if ours else type(module).interpolate_pos_encoding.__get__(module)
        with torch.inference_mode():  # what a validation keeps serves the training after it
            resize(weight, height, width)
        with torch.autocast("cpu", torch.bfloat16):
            resized = resize(weight, height, width)
        network.zero_grad()
        (resized * weight).sum().backward()
        (gradient,) = [p.grad for name, p in module.named_parameters() if name.startswith("position_embedding")]
        results.append((resized, gradient.flatten()))
    (mine, gradient), (theirs, expected) = results
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("family", ["dinov2", "clip"])
def test_copies_resize_their_own_position_embeddings(build, family):
    network = build(family).backbone.eval()
    image = torch.rand(1, 3, network.stride * 2, network.stride * 3)
    copied = copy.deepcopy(network)
    torch.testing.assert_close(copied(image), network(image))
    for name, weight in copied.named_parameters():
        if "position" in name:
            weight.data.add_(torch.randn_like(weight))
    assert not torch.allclose(copied(image)[0], network(image)[0])


@pytest.mark.slow  # it loads the compiler
def test_compiled_embeddings_resize_to_any_size(build):
    embeddings = build("dinov2").backbone.network.embeddings
    compiled = torch.compile(embeddings, backend="eager", fullgraph=True)
    for size in ((28, 70), (42, 84)):
        image = torch.rand(1, 3, *size)
        torch.testing.assert_close(compiled(image), embeddings(image))


def test_frozen_stages_survive_synchronised_batch_norm(build):
    segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(build("resnet", freeze_stages=1)).train()
    norms = [m for m in segmenter.backbone.network.embedder.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms
    assert not any(m.training for m in norms)
    assert segmenter.backbone.network.encoder.stages[1].training


def test_overfits_one_image(build):
    """The whole network learns thin structures: a 2-pixel pole on a plain ground, from the decoder's stride 4."""
    segmenter = build("clip", classes=["ground", "pole"])
    image, label = torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.long)
    image[..., 13:15], label[..., 13:15] = 1, 1
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(segmenter(image), label).backward()
        optimizer.step()
    found = segmenter.eval()(image).argmax(1)
    assert (found & label).sum() / (found | label).sum() > 0.5


@pytest.mark.remedy("segmenter/segmenter.py::build_head")
@pytest.mark.remedy("segmenter/backbones.py::Backbone._set_stride")
@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("clip", {"head": "deeplabv3plus"}, "does not suit .* plain ViT: set --model.segmenter.head concat$"),
        ("resnet", {"head": "concat"}, "does not suit .* hierarchy: set --model.segmenter.head deeplabv3plus$"),
        ("resnet", {"head": "pyramid"}, "does not suit .* hierarchy: set --model.segmenter.head deeplabv3plus$"),
        ("convnext", {"output_stride": 16}, "output_stride 16 needs a ResNet: leave it out, .* stride 32$"),
        ("clip", {"output_stride": 16}, "output_stride 16 needs a ResNet: leave it out, .* stride 8$"),
    ],
)
def test_combinations_that_make_no_sense(build, family, options, message):
    with pytest.raises(ValueError, match=message) as error:
        build(family, **options)
    assert "\n" not in str(error.value)
    head = str(error.value).partition("set --model.segmenter.head ")[2]
    build(family, **({"head": head} if head else {}))


SMALL_VIT = {**VIT, "image_size": 64, "patch_size": 16}
OTHERS = {
    "bert": (BertConfig(**VIT), "without a stem and stages"),
    "vit": (ViTConfig(**SMALL_VIT), "without a stem and stages"),
    "segformer": (SegformerConfig(), "without a stem and stages"),
    "timm_backbone": (TimmBackboneConfig(backbone="resnet18"), "without a stem and stages"),
    "hiera": (HieraConfig(embed_dim=8, depths=[1, 1, 1, 1]), r"which does not take images of any size \(.+\)"),
}


@pytest.mark.remedy("segmenter/backbones.py::read_config")
@pytest.mark.remedy("segmenter/backbones.py::Backbone.__init__")
@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_that_is_no_backbone(tmp_path, build, kind):
    config, fault = OTHERS[kind]
    config.save_pretrained(tmp_path / kind)
    choice = "choose a ResNet, ConvNeXt, .* Pixio, TIPSv2, CLIP, MetaCLIP 2 or SigLIP"
    with pytest.raises(ValueError, match=rf"is a '{kind}', {fault}: {choice}$") as error:
        Segmenter(str(tmp_path / kind), "fpn", pretrained=False)
    assert "\n" not in str(error.value)
    build("resnet")
    Segmenter("efficientnet_lite0", "fpn", pretrained=False)


@pytest.mark.remedy("segmenter/backbones.py::stem_and_stages")
def test_a_network_without_a_list_of_stages():
    with pytest.raises(ValueError, match="Conv2d has no list of 4 stages: choose another backbone"):
        stem_and_stages(nn.Conv2d(3, 3, 1), 4)
    assert len(stem_and_stages(Backbone("resnet_small", pretrained=False).network, 4)[1]) == 4


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def download(command: str, hub: Path) -> None:
    """Fill the cache with tinyclip as `hf download NAME --force-download` does."""
    *words, name = command.removesuffix(" --force-download").split(" ")
    assert words == ["hf", "download"]
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(SHIPPED["tinyclip"], repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")


@pytest.mark.remedy("segmenter/pretrained.py::load_pretrained")
@pytest.mark.parametrize("damage", [None, "model.safetensors", "config.json"])
def test_a_model_of_the_hub_that_is_not_there_or_damaged(hub, damage):
    name = "nobody/no-such-model"
    if damage:
        download(f"hf download {name}", hub)
        (found,) = hub.rglob(damage)
        found.write_bytes(found.read_bytes()[:100])
    with pytest.raises(OSError, match=f"{name}.*: run `hf download .*` where there is a network, .*, or give") as error:
        Segmenter(name)
    assert "\n" not in str(error.value)
    command = str(error.value).split("`")[1]
    download(command, hub)
    Segmenter(name)


@pytest.mark.parametrize("name", ["{}/no/such/folder", "./none", "~/none", "not/in/the/hub", "no such model"])
def test_a_folder_that_is_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    name = name.format(tmp_path)
    with pytest.raises(OSError, match=rf"'{name}' cannot be loaded \(.*\): give a folder that exists, or a hub id$"):
        Segmenter(name)
    shutil.copytree(SHIPPED["tinyclip"], Path(name).expanduser())
    Segmenter(name)


def test_a_folder_that_is_relative_to_another(tmp_path, monkeypatch):
    shutil.copytree(SHIPPED["tinyclip"], tmp_path / "models" / "mine")
    with pytest.raises(OSError, match="a folder that exists, and start in the folder that it is relative to$"):
        Segmenter("models/mine")
    monkeypatch.chdir(tmp_path)
    Segmenter("models/mine")


def test_a_model_that_its_owner_has_to_open(monkeypatch, hub):
    def refuse(*_, **__):
        raise OSError("You are trying to access a gated repo.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(OSError, match="gated repo.*: run `hf download nobody/gated .*if gated after `hf auth login`"):
        Segmenter("nobody/gated")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("window", [None, Window(32, 16)])
@pytest.mark.parametrize("family", ["resnet", "clip"])
def test_predict_in_every_precision(build, family, dtype, window):
    segmenter, image = build(family).eval(), torch.rand(3, 40, 56)
    expected = segmenter.predict(image, window)
    found = segmenter.to(dtype).predict(image, window)
    assert segmenter(image[None]).dtype == dtype
    assert found.dtype == torch.uint8
    assert (found == expected).float().mean() > 0.9


def test_as_many_classes_as_a_byte_holds_beside_the_ignored_pixels(build):
    segmenter = build("resnet", classes=[f"class {k}" for k in range(255)]).eval()
    torch.nn.init.zeros_(segmenter.classifier.weight)
    segmenter.classifier.bias.data = (torch.arange(255) == 254).float()
    label = segmenter.predict(torch.rand(3, 32, 32))
    assert label.dtype == torch.uint8
    assert (label == 254).all()


@pytest.mark.parametrize("early_stages", [1, 2])
@pytest.mark.parametrize(
    ("family", "head"),
    [
        (family, head)
        for family in FAMILIES
        for head in (("pyramid", "concat") if family in PLAIN else ("deeplabv3plus", "fpn"))
    ],
)
def test_every_parameter_that_learns_has_a_gradient_or_ddp_would_fail(build, family, head, early_stages):
    segmenter = build(family, head=head, early_stages=early_stages)
    train_step(segmenter)
    assert [name for name, p in segmenter.named_parameters() if p.requires_grad and p.grad is None] == []
