import math

import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.metrics import class_iou, mean_iou, unseen_mean


def test_miou_by_hand():
    label = torch.tensor([[0, 0, 1, 1], [2, 2, 255, 255]])
    prediction = torch.tensor([[0, 1, 1, 1], [2, 0, 0, 3]])
    confusion = MulticlassConfusionMatrix(5, ignore_index=255)
    confusion.update(prediction, label)
    iou = class_iou(confusion.compute())
    # class 0: 1 hit, 1 missed, 1 false; class 1: 2 hits, 1 false; class 2: 1 hit, 1 missed; 3 and 4: nothing counted
    assert iou[:3].tolist() == [1 / 3, 2 / 3, 1 / 2]
    assert iou[3:].isnan().all()
    assert mean_iou(iou, range(5)).item() == (1 / 3 + 2 / 3 + 1 / 2) / 3
    assert mean_iou(iou, [0, 2, 4]).item() == (1 / 3 + 1 / 2) / 2
    assert math.isnan(mean_iou(iou, [4]).item())


def test_a_class_predicted_without_ground_truth_counts_as_zero():
    confusion = torch.tensor([[3, 1], [0, 0]])
    iou = class_iou(confusion)
    assert iou.tolist() == [0.75, 0.0]
    assert mean_iou(iou, range(2)).item() == 0.375


def test_no_float64_is_made_on_the_device(monkeypatch):
    on_cpu = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: on_cpu.append(self) or self)
    double = torch.Tensor.double

    def after_cpu(self):
        assert any(self is each for each in on_cpu), "float64 does not exist on Apple's MPS"
        return double(self)

    monkeypatch.setattr(torch.Tensor, "double", after_cpu)
    assert class_iou(torch.tensor([[3, 1], [0, 0]])).tolist() == [0.75, 0.0]


def test_the_mean_over_unseen_domains_leaves_the_sources_out():
    values = {"gta": 0.7, "fog": 0.4, "night": 0.2}
    assert unseen_mean(values, {"fog", "night", "rain"}) == pytest.approx(0.3)
    assert math.isnan(unseen_mean(values, ()))
    assert math.isnan(unseen_mean({}, {"fog"}))
