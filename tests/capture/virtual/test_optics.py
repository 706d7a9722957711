from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.optics import optics_at
from sdd_toolkit.imaging.disc import disc_kernel

CENTRE = (400.0, 300.0)


def config(**values: object) -> SimulateConfig:
    return SimulateConfig.model_validate({"width": 648, "height": 432, **values})


def test_the_default_lens_draws_exact_discs_of_any_radius() -> None:
    optics = optics_at(2.8, config(), CENTRE)
    assert optics.is_plain_disc
    assert np.array_equal(optics.kernel(-3.217), disc_kernel(3.217))


def test_blades_are_seen_only_when_stopped_down() -> None:
    lens = config(blades=7)
    assert optics_at(1.2, lens, CENTRE).is_plain_disc
    assert optics_at(1.4, lens, CENTRE).pupil.blades == 7


def test_aberration_falls_with_the_cube_of_the_opening() -> None:
    lens = config(spherical_aberration_px=4.0)
    assert optics_at(2.4, lens, CENTRE).aberration_px == pytest.approx(0.5)


def test_the_cats_eye_looks_at_the_centre_and_stopping_down_closes_it() -> None:
    lens = config(cat_eye=0.6)
    wide = optics_at(1.2, lens, CENTRE)
    at = np.arange(13) - 6
    right = wide.kernel(6.0, (CENTRE[0] + 300, CENTRE[1]))
    assert (right.sum(0) * at).sum() < -0.5
    below = wide.kernel(6.0, (CENTRE[0], CENTRE[1] + 200))
    assert (below.sum(1) * at).sum() < -0.3
    assert not optics_at(3.2, lens, CENTRE).varies_over_frame


def test_the_light_that_a_cats_eye_takes_is_the_area_it_loses() -> None:
    lens = config(cat_eye=0.5)
    light = optics_at(1.2, lens, CENTRE).light(lens.size)
    lens_area = 2 * np.arccos(0.25) - 0.5 * np.sqrt(1 - 0.0625)
    assert light[216, 324] == pytest.approx(1, abs=0.01)
    assert light[0, 0] == pytest.approx(lens_area / np.pi, abs=0.005)


def test_kernels_change_smoothly_over_radius_and_field() -> None:
    wide = optics_at(1.2, config(cat_eye=0.6, spherical_aberration_px=1.0), CENTRE)
    steps = [wide.kernel(5.0 + 0.001 * n, (500.0 + n, 300.0)) for n in range(60)]
    assert max(np.abs(a - b).max() for a, b in pairwise(steps)) < 0.002
    assert all(kernel.sum() == pytest.approx(1, abs=1e-5) for kernel in steps)
