import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from ppar_lightning.callbacks.scores import Confusion
from ppar_lightning.metrics import (
    CHUNK,
    class_iou,
    confusions,
    image_counts,
    interval,
    mean_iou,
    resampled_iou,
    unseen_mean,
)


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


def counts_of(images: list[tuple[list[int], list[int]]], classes: int) -> torch.Tensor:
    """Counts of images that are given as (label, prediction)."""
    return torch.cat([image_counts(torch.tensor([guess]), torch.tensor([label]), classes) for label, guess in images])


def test_counts_of_images_add_up_to_the_confusion_matrix():
    rng = torch.Generator().manual_seed(0)
    label, guess = (torch.randint(0, 5, (4, 9, 7), generator=rng) for _ in range(2))
    label[:, :3] = 255
    confusion = MulticlassConfusionMatrix(5, ignore_index=255)(guess, label)[:4, :].double()
    counts = image_counts(guess, label, 5)
    assert counts.shape == (4, 5, 3)
    total = counts.sum(dim=0)
    assert total[:4, 0].tolist() == confusion.diagonal().tolist()
    assert total[:4, 1].tolist() == confusion.sum(dim=1).tolist()
    assert total[:, 1].sum() == total[:, 2].sum() == 4 * 6 * 7
    label[label == 4] = 255
    others = image_counts(guess, label, 4)  # a prediction of class 4 is of none of the four
    assert others[..., 1].sum() > others[..., 2].sum()
    assert others[..., 0].sum() == total[:4, 0].sum()


@pytest.mark.parametrize("classes", [1, 2, 19, 255])
@pytest.mark.parametrize("width", [7, 100])
def test_matrices_of_images_are_those_of_torchmetrics(classes, width):
    rng = torch.Generator().manual_seed(0)
    label, guess = (torch.randint(0, classes, (3, 9, width), generator=rng) for _ in range(2))
    label[:, :3] = 255
    label[2] = 255  # nothing of this image is labelled
    found = confusions(guess, label, classes)
    assert found.shape == (3, classes + 1, classes + 1)
    assert found.dtype == torch.int64
    assert not found[:, classes].any()
    for own, *pair in zip(found, guess, label, strict=True):
        expected = MulticlassConfusionMatrix(max(2, classes), ignore_index=255)(*pair)
        assert torch.equal(own[:classes, :classes], expected[:classes, :classes])
    guess[:, 4] = classes  # which stands for a class that is not scored
    assert confusions(guess, label, classes)[:2, :, classes].sum() == 2 * width


@pytest.mark.parametrize(("classes", "side"), [(19, 19), (19, 20), (255, 255), (255, 256)])
def test_a_domains_matrix_is_the_sum_of_its_images(classes, side):
    label, guess = (torch.randint(0, classes, (4, 8, 9)) for _ in range(2))
    label[:, 0] = 255
    metric = Confusion(side, validate_args=False)
    for part in (slice(0, 3), slice(3, 4)):
        metric.update(guess[part], label[part])
    expected = torch.zeros(side, side, dtype=torch.int64)
    expected[:classes, :classes] = confusions(guess, label, classes).sum(dim=0)[:classes, :classes]
    assert torch.equal(metric.compute(), expected)


def test_an_interval_of_equal_images_is_a_point_and_of_others_is_not():
    same = counts_of([([0, 0, 1, 1], [0, 1, 1, 1])] * 6, 2)
    iou = resampled_iou(same, 100, "fog")
    assert iou.shape == (100, 2)
    assert iou.unique(dim=0).tolist() == [[1 / 2, 2 / 3]]
    mixed = counts_of([([0, 0, 1, 1], [0, 1, 1, 1]), ([0, 0, 1, 1], [0, 0, 1, 1]), ([0, 1, 1, 255], [1, 0, 0, 0])], 2)
    low, high = interval(mean_iou(resampled_iou(mixed, 1000, "fog"), range(2)))
    whole = mixed.sum(dim=0).double()
    middle = float((whole[:, 0] / (whole[:, 1] + whole[:, 2] - whole[:, 0])).mean())
    assert 0 <= low < middle < high <= 1


def test_resamples_are_those_that_a_loop_over_images_gives():
    rng = torch.Generator().manual_seed(0)
    counts = image_counts(*(torch.randint(0, 3, (7, 8, 8), generator=rng) for _ in range(2)), 3)
    resamples = 2 * CHUNK + 3
    found = resampled_iou(counts, resamples, "rain")
    weights = np.random.default_rng([*b"rain"]).multinomial(7, [1 / 7] * 7, CHUNK)
    for row in (0, CHUNK - 1):
        drawn = torch.cat([counts[[image] * times] for image, times in enumerate(weights[row])]).sum(dim=0).double()
        assert torch.equal(found[row], drawn[:, 0] / (drawn[:, 1] + drawn[:, 2] - drawn[:, 0]))
    assert found.shape == (resamples, 3)
    assert torch.equal(found, resampled_iou(counts, resamples, "rain"))
    assert not torch.equal(found, resampled_iou(counts, resamples, "snow"))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = rng.binomial(100, rng.beta(6, 4, 20_000))  # pixels of class 1 that an image has right, of 100
    counts = torch.tensor(np.stack([np.stack([0 * hits + 50] * 3, 1), np.stack([hits, 0 * hits + 100, hits], 1)], 1))
    truth = float(mean_iou(resampled_iou(counts.sum(dim=0, keepdim=True), 1, ""), range(2)))
    ends = [interval(mean_iou(resampled_iou(part, 400, str(k)), range(2))) for k, part in enumerate(counts.split(100))]
    covered = np.mean([low <= truth <= high for low, high in ends])
    assert 0.9 < covered < 0.98
