"""The Lightning module alone: what it builds, the losses it starts with, its parameter groups and learning rates."""

import pytest
import torch

from ppar_lightning.baselines.whitening import ISWOptions
from ppar_lightning.method import objective as method
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.module import PPARModule
from ppar_lightning.segmenter.segmenter import Segmenter


def build(**options) -> PPARModule:
    torch.manual_seed(1)
    segmenter = Segmenter("resnet_small", "fpn", 19, pretrained=False, decoder_channels=16)
    return PPARModule(segmenter, PPAROptions(visual_size=32, clip_dtype="float32"), seed=3, **options)


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
    Segmenter("resnet_small", "fpn", 19, pretrained=False, decoder_channels=16)
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


def test_the_ensemble_needs_the_objective_in_evaluation_too():
    module = PPARModule(build().segmenter, PPAROptions(visual_size=32, ensemble=1.0), for_training=False)
    image = torch.rand(1, 3, 32, 32)
    module.eval()
    assert not torch.equal(module(image), module.segmenter(image))
