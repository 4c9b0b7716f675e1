import math

import pytest

from ppar_lightning.method.alignment import anchor_shares
from ppar_lightning.method.schedule import anchor_pull, cosine_ramp, ramp


def test_ramp_is_linear_between_its_ends():
    assert [ramp(u, 0.1, 0.3) for u in (0, 0.1, 0.15, 0.3, 1)] == pytest.approx([0, 0, 0.25, 1, 1])
    assert (ramp(0.49, 0.5, 0.5), ramp(0.5, 0.5, 0.5)) == (0, 1)


def test_rho_starts_with_the_easy_anchor_and_ends_with_the_difficult_one():
    rho = [cosine_ramp(u / 100, 0.35, 0.75) for u in range(101)]
    assert rho[0] == rho[35] == 0
    assert rho[75] == rho[100] == 1
    assert rho[55] == pytest.approx(0.5)
    assert rho[45] == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert rho == sorted(rho)


@pytest.mark.parametrize(
    ("order", "start", "end"),
    [
        ("vtp_to_otp", (1, 0, 0), (0, 1, 0)),
        ("otp_to_vtp", (0, 1, 0), (1, 0, 0)),
        ("joint", (0.5, 0.5, 0), (0.5, 0.5, 0)),
        ("otp", (0, 1, 0), (0, 1, 0)),
        ("vtp", (1, 0, 0), (1, 0, 0)),
        ("naive", (0, 0, 1), (0, 0, 1)),
    ],
)
def test_each_order_names_its_anchors(order, start, end):
    assert tuple(anchor_shares(order, 0.0)) == start
    assert tuple(anchor_shares(order, 1.0)) == end
    assert sum(anchor_shares(order, 0.3)) == pytest.approx(1)


def test_vtp_is_drawn_to_otp_while_the_features_follow():
    assert (anchor_pull(0.0), anchor_pull(1.0)) == (pytest.approx(0.1), pytest.approx(1.0))
