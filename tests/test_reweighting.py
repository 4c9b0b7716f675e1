import pytest
import torch

from ppar_lightning.method.alignment import UNKNOWN
from ppar_lightning.method.grid import Grid
from ppar_lightning.method.reweighting import (
    MarginStatistics,
    margins,
    pixel_weights,
    pool_margins,
    raw_weights,
)


def test_the_margin_is_the_lead_over_the_best_rival():
    cosine = torch.tensor([[[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]]])
    torch.testing.assert_close(margins(cosine, torch.tensor([[0, 1]])), torch.tensor([[0.4, -0.5]]))


def test_a_class_without_anchor_has_no_margin():
    cosine = torch.tensor([[[0.9, UNKNOWN, UNKNOWN], [0.9, UNKNOWN, UNKNOWN]]])
    assert margins(cosine, torch.tensor([[0, 1]])).tolist() == [[0.0, 0.0]]


def test_statistics_are_the_mean_and_deviation_of_what_was_seen():
    torch.manual_seed(0)
    margin, label = torch.randn(1000), torch.arange(1000) % 2
    statistics = MarginStatistics(3, momentum=0.9)
    powers = torch.stack([margin, margin.square(), torch.ones(1000)], dim=1)
    statistics.update(torch.nn.functional.one_hot(label, 3).float().T @ powers)
    for k in (0, 1):
        own = margin[label == k]
        torch.testing.assert_close(statistics.moments()[0][k], own.mean())
        torch.testing.assert_close(statistics.moments()[1][k], own.std(correction=0))
    assert statistics.moments()[1][2] == pytest.approx(0.02)
    assert statistics.standardise(margin[:2].view(2, 1), torch.tensor([[2], [2]])).abs().max() == 0


def test_an_absent_class_keeps_its_statistics():
    statistics = MarginStatistics(2, momentum=0.5)
    statistics.update(torch.tensor([[3.0, 5.0, 2.0], [4.0, 9.0, 2.0]]))
    before = statistics.sums.clone()
    statistics.update(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert torch.equal(statistics.sums[1], before[1])
    assert not torch.equal(statistics.sums[0], before[0])


def test_directions_mirror_each_other():
    u = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(
        raw_weights(u, torch.tensor(0.5), "reliable"), raw_weights(-u, torch.tensor(0.5), "hard")
    )
    assert raw_weights(u, torch.tensor(0.5), "reliable").diff().min() > 0


def test_regions_and_images_share_a_margin():
    margin = torch.tensor([[1.0, 3.0, 5.0], [2.0, 2.0, 9.0]])
    one_hot = torch.tensor([[[1, 0], [1, 0], [0, 1]], [[1, 0], [1, 0], [0, 0]]]).float()
    assert torch.equal(pool_margins(margin, one_hot, "pixel"), margin)
    assert pool_margins(margin, one_hot, "region").tolist() == [[2, 2, 5], [2, 2, 0]]
    assert pool_margins(margin, one_hot, "image").tolist() == [[3.5] * 3, [2.0] * 3]


def test_pixel_weights_stay_within_the_bounds():
    maps = pixel_weights(
        torch.tensor([[9.0, 0.0, 1.0, 1.0]]), Grid.over((2, 2), (8, 8)), (8, 8), *torch.tensor([1 / 3, 3])
    )
    assert maps.shape == (1, 8, 8)
    assert maps.min() == pytest.approx(1 / 3)
    assert maps.max() == pytest.approx(3)
