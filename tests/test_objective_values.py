"""Losses, gradients and banks of a few steps are those of the plain objective of 0.1.0, which autograd differentiated.

``data/objective.json`` holds its values: the terms, and for gradients and banks the sum of each element times the sine
of its number. Inputs and weights come from numpy, so they are the same with any version of torch.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppar_lightning.method.clip import VisualContext
from ppar_lightning.method.grid import Grid
from ppar_lightning.method.objective import PPAR
from ppar_lightning.method.options import PPAROptions
from ppar_lightning.segmenter.segmenter import SegmenterOutput

VALUES = json.loads((Path(__file__).parent / "data/objective.json").read_text())
IMAGES, CLASSES, CHANNELS, WIDTH = 2, 5, 6, 8
VARIANTS = {
    "default": {},
    "reversed": {"order": "otp_to_vtp"},
    "joint": {"order": "joint"},
    "otp": {"order": "otp"},
    "naive": {"order": "naive"},
    "vtp": {"order": "vtp"},
    "region": {"reweighting": "region"},
    "image": {"reweighting": "image"},
    "hard": {"direction": "hard"},
    "off": {"reweighting": "off"},
    "held": {"align_segmenter": False},
    "features": {"context": "features"},
    "backbone": {"level": "backbone"},
}


def draw(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


class Eyes(nn.Module):
    """Stands for CLIP's image tower: random context on a grid whose cells are no whole number of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(8)

    def forward(self, image: Tensor) -> VisualContext:
        whole, dense = draw(self.rng, IMAGES, 1, WIDTH), draw(self.rng, IMAGES, 12, WIDTH)
        return VisualContext(torch.cat([whole, dense], dim=1), Grid.over((3, 4), (40, 56)))


def fingerprint(tensor: Tensor) -> float:
    numbers = torch.arange(1, tensor.numel() + 1, dtype=torch.float64).view_as(tensor)
    return float((tensor.detach().double() * numbers.sin()).sum())


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_gradients_and_banks_are_those_of_the_plain_objective(tmp_path, variant):
    rng = np.random.default_rng(7)
    np.save(tmp_path / "text.npy", rng.normal(size=(CLASSES, WIDTH)).astype(np.float32))
    common = {"context": "features", "context_every": 1, "momentum": 0.9, "tau": 0.2}
    options = PPAROptions(text_embeddings=str(tmp_path / "text.npy"), **common | VARIANTS[variant])
    objective = PPAR(options, CHANNELS, [[f"c{k}"] for k in range(CLASSES)]).eval()
    if variant != "features":
        objective.clip = Eyes()
    with torch.no_grad():
        for _, parameter in sorted(objective.named_parameters()):
            parameter.copy_(0.3 * draw(rng, *parameter.shape))
    for u, expected in zip((0.05, 0.2, 0.5, 0.9), VALUES[variant], strict=True):
        label = torch.from_numpy(rng.integers(0, CLASSES + 1, (IMAGES, 5, 7)))
        label = torch.where(label == CLASSES, 255, label).repeat_interleave(8, 1).repeat_interleave(8, 2)
        image = torch.from_numpy(rng.random((IMAGES, 3, 40, 56), dtype=np.float32))
        sizes = {
            "coarse": (CLASSES, 16),
            "decoder": (CHANNELS, 16),
            "backbone": (CHANNELS, 4),
            "auxiliary": (CLASSES, 4),
        }
        maps = {name: draw(rng, IMAGES, n, side, side).requires_grad_() for name, (n, side) in sizes.items()}
        losses = objective(SegmenterOutput(size=(40, 56), covered=(64, 64), **maps), image, label, u)
        losses.total.backward()
        objective.update()
        memory = objective.prototypes
        gradients = {name: each.grad for name, each in maps.items()}
        gradients |= {"embed": objective.embed.weight.grad, "gamma": memory.gamma.grad}
        state = {"vtp": memory.bank, "visual": objective.visual_bank.bank, "statistics": objective.statistics.sums}
        found = {
            "terms": {name: float(term.detach()) for name, term in losses.terms.items()},
            "gradients": {name: fingerprint(each) for name, each in gradients.items() if each is not None},
            "state": {name: fingerprint(each) for name, each in state.items()},
        }
        if not objective.refines:  # nothing of VTP is computed that the losses of these rows do not use
            expected["terms"] = {name: expected["terms"][name] for name in ("ce", "aux", "align")}
            del expected["gradients"]["gamma"], found["state"]["vtp"], expected["state"]["vtp"]
        for part, values in expected.items():
            assert found[part] == pytest.approx(values, abs=1e-5, rel=1e-5), part
        objective.zero_grad()
