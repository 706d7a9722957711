"""Tukey's biweight."""

from __future__ import annotations

import numpy as np
import pytest

from sdd_toolkit.imaging.robust import MAD_TO_SIGMA, TUKEY, biweight, biweight_loss


def test_weights_fall_to_nothing_at_one_and_stay_there() -> None:
    assert biweight(np.array([0.0, 0.25, 1.0, 9.0])).tolist() == [1.0, 0.5625, 0.0, 0.0]


def test_the_loss_is_the_integral_of_its_weights() -> None:
    u = np.linspace(0, 1.5, 3001)
    slope = np.gradient(biweight_loss(u**2) / 3, u)
    assert np.abs(slope - 2 * u * biweight(u**2)).max() < 2e-3


def test_the_constants_are_those_of_the_normal_distribution() -> None:
    normal = np.random.default_rng(0).standard_normal(400_000)
    assert MAD_TO_SIGMA * np.median(np.abs(normal)) == pytest.approx(1, rel=0.01)
    u = np.clip(normal / TUKEY, -1, 1)
    slope = ((1 - u**2) * (1 - 5 * u**2)).mean()
    efficiency = slope**2 / ((normal * (1 - u**2) ** 2) ** 2).mean()
    assert efficiency == pytest.approx(0.95, abs=0.01)
