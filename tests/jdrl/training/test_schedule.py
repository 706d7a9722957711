"""Rates and weights by step."""

from __future__ import annotations

import pytest

from jdrl.config import TrainConfig
from jdrl.training.schedule import (
    deformation_weights,
    ema_decay,
    estimator_weight,
    joint_start_step,
    learning_rate,
    phase,
    reblur_learning_rate,
    reblur_weight,
    uses_reblurring,
)


def plan(**values: object) -> TrainConfig:
    return TrainConfig.model_validate({"steps": 100, "rate_ramp_steps": 10, "learning_rate": 1.0, **values})


def test_the_rate_rises_linearly_and_falls_along_a_cosine() -> None:
    config = plan(final_learning_rate=0.2)
    assert learning_rate(0, config) == 0.1
    assert learning_rate(9, config) == 1.0
    assert learning_rate(10, config) == 1.0
    assert learning_rate(99, config) == pytest.approx(0.2)
    # Half way down the cosine, between step 54 and 55.
    assert (learning_rate(54, config) + learning_rate(55, config)) / 2 == pytest.approx(0.6)


def test_a_run_shorter_than_its_ramp_still_reaches_the_peak() -> None:
    config = plan(steps=4, rate_ramp_steps=500)
    assert max(learning_rate(step, config) for step in range(4)) == 1.0


def test_a_run_of_one_step_has_a_rate() -> None:
    assert learning_rate(0, plan(steps=1)) == 1.0


def test_reblurring_is_off_while_warming_up_and_ramps_to_its_weight() -> None:
    config = plan(warm_up_fraction=0.4, reblur_ramp_fraction=0.1)
    assert joint_start_step(config) == 40
    assert reblur_weight(39, config) == 0.0
    assert reblur_weight(40, config) == pytest.approx(0.05)
    assert reblur_weight(49, config) == pytest.approx(0.5)
    assert reblur_weight(99, config) == 0.5


def test_at_the_switch_the_deformation_ramps_up_and_not_what_ties_the_geometry() -> None:
    config = plan(warm_up_fraction=0.4, deformation_ramp_fraction=0.1)
    assert [reblur_weight(step, config) for step in (39, 40)] == [0.0, config.reblur_weight]
    weights = [deformation_weights(step, config) for step in (40, 44, 49, 99)]
    assert [first for first, _ in weights] == [1] * 4
    assert [second for _, second in weights] == pytest.approx([0.1, 0.5, 1, 1])
    assert deformation_weights(40, plan(warm_up_fraction=0.4, deformation_ramp_fraction=0.0)) == (1, 1)
    assert deformation_weights(40, plan(warm_up_fraction=0.4, deformation="to_sharp")) == (0, 1)
    assert deformation_weights(99, plan(warm_up_fraction=0.4, deformation="to_blur")) == (1, 0)


def test_the_reblurring_network_has_a_third_of_the_rate_or_its_own_and_shares_the_frozen_one() -> None:
    config = plan(frozen_fraction=0.2, frozen_learning_rate=7.0, weights="net.pth")
    steps = (20, 29, 60, 99)
    for share, own in ((1 / 3, None), (0.5, 0.5)):
        chosen = config.model_copy(update={"reblur_learning_rate": own})
        assert reblur_learning_rate(0, chosen) == 7.0
        rates = [learning_rate(step, chosen) * share for step in steps]
        assert [reblur_learning_rate(step, chosen) for step in steps] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("values", "used"),
    [
        ({}, True),
        ({"reblur_weight": 0.0}, False),
        ({"warm_up_fraction": 1.0}, False),
        ({"reblur_weight": 0.0, "method": "triplet"}, True),
        ({"warm_up_fraction": 1.0, "method": "triplet"}, True),
        ({"frozen_fraction": 0.5, "warm_up_fraction": 0.5}, True),
        # Whether a run is short does not matter: it may be made longer.
        ({"warm_up_fraction": 0.9, "steps": 1}, True),
    ],
)
def test_the_reblurring_network_is_trained_where_it_is_used(values: dict[str, object], used: bool) -> None:
    assert uses_reblurring(plan(**values)) == used


def test_the_blur_estimator_learns_from_reblurring_as_that_comes_in() -> None:
    config = plan(warm_up_fraction=0.4, deformation_ramp_fraction=0.1, estimator_weight=2.0)
    assert [estimator_weight(step, config) for step in (0, 39, 40, 49, 99)] == pytest.approx([0, 0, 0.2, 2, 2])


def test_the_blur_estimator_learns_in_the_frozen_phase_where_there_is_one() -> None:
    config = plan(frozen_fraction=0.2, warm_up_fraction=0.1, estimator_weight=2.0)
    assert [estimator_weight(step, config) for step in (0, 9, 19, 25, 99)] == pytest.approx([0.1, 1, 2, 2, 2])


def test_without_a_ramp_reblurring_starts_at_its_weight() -> None:
    assert reblur_weight(0, plan(warm_up_fraction=0.0, reblur_ramp_fraction=0.0)) == 0.5


def test_a_whole_run_of_warm_up_has_no_joint_phase() -> None:
    assert joint_start_step(plan(warm_up_fraction=1.0)) == 100


def test_the_average_forgets_its_start() -> None:
    assert ema_decay(0, plan()) == pytest.approx(0.1)
    assert ema_decay(10**6, plan()) == 0.999
    assert ema_decay(10**6, plan(ema=0.0)) == 0.0


def test_the_rate_drops_by_its_factors_at_its_places() -> None:
    config = plan(rate_schedule="step", rate_drops=[[0.6, 0.5], [0.9, 0.1]])
    rates = [learning_rate(step, config) for step in (0, 9, 59, 60, 89, 90, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.5, 0.05, 0.05])


def test_phases_follow_each_other_and_the_frozen_one_has_its_own_rate() -> None:
    config = plan(frozen_fraction=0.2, warm_up_fraction=0.3, frozen_learning_rate=7.0, reblur_ramp_fraction=0.0)
    assert [phase(step, config) for step in (0, 19, 20, 49, 50, 99)] == [
        *("frozen", "frozen"),
        *("warm-up", "warm-up"),
        *("joint", "joint"),
    ]
    # The rise and the cosine begin where the deblurring network begins to learn.
    assert [learning_rate(step, config) for step in (0, 19, 20, 29)] == pytest.approx([7.0, 7.0, 0.1, 1.0])
    assert learning_rate(99, config) == pytest.approx(1e-6)
    assert [reblur_weight(step, config) for step in (49, 50)] == [0.0, 0.5]
