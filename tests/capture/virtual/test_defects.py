from __future__ import annotations

import numpy as np
import pytest

from capture.virtual.config import SimulateConfig
from capture.virtual.defects import Defect
from capture.virtual.render_pair import render_pair

CONFIG = SimulateConfig(width=384, height=256)


def test_every_defect_has_the_reason_it_must_be_rejected_for() -> None:
    assert {defect.value: defect.reason.value for defect in Defect} == {
        "black_frame": "black_frame", "different_scene": "different_scene", "moving_object": "moving_object",
        "clipped": "clipped", "both_blurred": "both_blurred", "moving_leaf": "moving_object",
        "light_change": "exposure_mismatch",
    }  # fmt: skip


@pytest.mark.parametrize("index", [1, 2, 3])
def test_light_fades_by_more_than_one_stop(index: int) -> None:
    good, dim = (render_pair(CONFIG, "focus", 7, index, fault) for fault in (None, "light_change"))
    stops = np.log2(good.sharp_linear.mean() / dim.sharp_linear.mean())
    assert 1.3 <= stops <= 2.0
    assert np.array_equal(good.blur_mosaic, dim.blur_mosaic)
    assert np.array_equal(good.truth.displacement, dim.truth.displacement)


def test_a_leaf_that_moves_is_smaller_than_an_object() -> None:
    still, leaf, thing = (render_pair(CONFIG, "focus", 7, 1, f) for f in (None, "moving_leaf", "moving_object"))

    def moved(pair: object) -> float:
        gap = pair.truth.displacement - still.truth.displacement  # type: ignore[attr-defined]
        return float((np.hypot(gap[..., 0], gap[..., 1]) > 1).mean())

    assert 0.02 < moved(leaf) < 0.045 < moved(thing)
