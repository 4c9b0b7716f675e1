import math

import pytest

from ppar_lightning.method.alignment import anchor_shares
from ppar_lightning.method.schedule import cosine_ramp, ramp
from ppar_lightning.method.step_plan import StepPlan


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
        ("vtp_to_otp", {"vtp": 1, "otp": 0}, {"vtp": 0, "otp": 1}),
        ("otp_to_vtp", {"vtp": 0, "otp": 1}, {"vtp": 1, "otp": 0}),
        ("joint", {"vtp": 0.5, "otp": 0.5}, {"vtp": 0.5, "otp": 0.5}),
        ("otp", {"otp": 1}, {"otp": 1}),
        ("vtp", {"vtp": 1}, {"vtp": 1}),
        ("naive", {"naive": 1}, {"naive": 1}),
    ],
)
def test_each_order_names_its_anchors(order, start, end):
    assert anchor_shares(order, 0.0) == start
    assert anchor_shares(order, 1.0) == end
    assert sum(anchor_shares(order, 0.3).values()) == pytest.approx(1)


def test_a_run_that_is_extended_has_the_schedules_of_one_planned_so():
    assert StepPlan(300).continued(300, 400, "extend") == StepPlan(400)
    assert StepPlan(400).progress(300) == 0.75
    assert StepPlan(400).rate(300, warmup=20, power=0.9) == pytest.approx(0.25**0.9)


def test_a_run_that_is_restarted_begins_a_cycle_of_rates_and_u_never_falls():
    again = StepPlan(300).continued(300, 400, "restart")
    rates = [again.rate(step, warmup=20, power=0.9) for step in range(300, 401)]
    assert rates[0] == pytest.approx(1 / 20)
    assert rates[20] == pytest.approx(0.8**0.9)
    assert rates[100] == 0
    assert {again.progress(step) for step in range(300, 401)} == {1.0}
    early = StepPlan(300).continued(150, 250, "restart")  # stopped at half
    assert [early.progress(step) for step in (150, 200, 250)] == [0.5, 0.75, 1]
    assert [early.rate(step, warmup=0, power=1) for step in (150, 200, 250)] == [1, 0.5, 0]
    assert early.continued(200, 250, "restart") == early  # it goes on, and does not begin again
